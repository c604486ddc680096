# Creates the virtual environment $1 from requirements.lock, unless it was created from the same file.
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
    # The default Python first; the others only if the default is older than 3.11.
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

[ -w . ] || refuse "The folder $(pwd) is not writable, but the environment $venv is created in it."
python=$(find_python)
[ -n "$python" ] || refuse "Python 3.11 or newer with its venv module is not installed: install it, or set PYTHON to its path."

echo "Creating $venv from $lock; this takes a minute." >&2
if ! { [ -x "$venv/bin/python" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1; }; then
    "$python" -m venv --clear "$venv" >"$log" 2>&1 || refuse "$python cannot create $venv: $(tail -n 1 "$log")"
fi
rm -f "$stamp"
"$venv/bin/python" -m pip install --disable-pip-version-check --no-input --require-hashes --requirement "$lock" \
    >"$log" 2>&1 || refuse "$lock cannot be installed: $(sed -n 's/^ERROR: //p' "$log" | sed 's/\. .*//' | head -n 1 | cut -c 1-200) (the whole log is $log)"
cp "$lock" "$stamp"
rm -f "$log"
