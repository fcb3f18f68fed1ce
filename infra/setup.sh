#!/usr/bin/env bash
# Make the virtual environment from the committed pins. usage: infra/setup.sh DIR
set -euo pipefail
venv=$1
python=${PYTHON:-python3}

fail() { echo "setup: $1" >&2; exit 64; }

[ -n "$python" ] || fail "no python3 found: apt-get install python3 python3-venv"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$version" = 3.11 ] || fail "$python is Python $version; 3.11 is needed: make PYTHON=/path/to/python3.11"

install() { # a Debian package, where that is ours to do
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    echo "setup: installing $1"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$1" >/dev/null
}
"$python" -c 'import ensurepip, venv' 2>/dev/null || install python3-venv ||
    fail "no venv module: apt-get install python3-venv"
"$python" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || install python3-dev ||
    echo "setup: no headers of Python, so the device image will be larger: apt-get install python3-dev"

echo "setup: virtual environment in $venv (about 280 packages, 2.4 GB; a few minutes the first time)"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
index=()
if [ -d "${TORCH_INDEX:-}" ]; then index=(--find-links "$TORCH_INDEX")
elif [ -n "${TORCH_INDEX:-}" ]; then index=(--extra-index-url "$TORCH_INDEX"); fi
"$venv/bin/pip" install --quiet --disable-pip-version-check "${index[@]}" -r requirements.lock
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --editable .
"$venv/bin/pip" check --disable-pip-version-check >/dev/null || fail "the installed packages do not fit together: make clean, then again"
