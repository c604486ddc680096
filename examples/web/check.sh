# Checks what the page needs before it is started, and prints what is missing.
set -eu

refuse() {
    echo "$1" >&2
    exit 1
}

how="install Node.js 20.19 or newer (https://nodejs.org), which brings npm"
command -v node >/dev/null 2>&1 || refuse "make web needs Node.js: $how."
command -v npm >/dev/null 2>&1 || refuse "make web needs npm: $how."
node -e 'const [major, minor] = process.versions.node.split(".").map(Number); process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)' ||
    refuse "make web needs a newer Node.js than $(node --version): $how."
folder=$(dirname "$0")
[ -w "$folder" ] || refuse "The folder $folder cannot be written to: make web installs the page's packages there."
