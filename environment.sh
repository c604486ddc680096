# Makes the virtual environment named by $1 from requirements.lock, unless it is made from that very file already.
set -eu
venv=$1
lock=requirements.lock
stamp=$venv/installed.lock
log=$venv.log

refuse() {
    echo "$1" >&2
    exit 1
}

is_new_enough() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    # The machine's default first; the others only where that is older than 3.11.
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
}

if [ -x "$venv/bin/python" ] && "$venv/bin/python" -c '' 2>/dev/null && cmp -s "$lock" "$stamp"; then
    exit 0
fi
[ -s "$lock" ] || refuse "$lock is missing or empty: restore it with 'git checkout $lock'."

[ -w . ] || refuse "The folder $(pwd) cannot be written to: the environment $venv is made in it."
python=$(find_python)
[ -n "$python" ] || refuse "There is no Python 3.11 or newer with its venv module: install it, or name it by PYTHON."

echo "Making $venv from $lock, once; this takes a minute." >&2
if ! { [ -x "$venv/bin/python" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1; }; then
    "$python" -m venv --clear "$venv" >"$log" 2>&1 || refuse "$python cannot make $venv: $(tail -n 1 "$log")"
fi
rm -f "$stamp"
"$venv/bin/python" -m pip install --disable-pip-version-check --no-input --require-hashes --requirement "$lock" \
    >"$log" 2>&1 || refuse "$lock cannot be installed: $(sed -n 's/^ERROR: //p' "$log" | sed 's/\. .*//' | head -n 1 | cut -c 1-200) (all of it is in $log)"
cp "$lock" "$stamp"
rm -f "$log"
