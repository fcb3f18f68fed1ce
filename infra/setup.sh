#!/usr/bin/env bash
# Make the virtual environment from the committed pins. usage: infra/setup.sh DIR
set -euo pipefail
venv=$1
python=${PYTHON:-python3}

fail() { echo "setup: $1" >&2; exit 64; }

[ -n "$python" ] || fail "no python3 found: apt-get install python3 python3-venv"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$version" = 3.11 ] || fail "$python is Python $version; 3.11 is needed: make PYTHON=/path/to/python3.11"

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || fail "no venv module: apt-get install python3-venv"
    echo "setup: installing python3-venv"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y python3-venv >/dev/null
fi

if ! "$python" -c 'import pathlib, sysconfig; assert pathlib.Path(sysconfig.get_path("include"), "Python.h").is_file()' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing python3-dev"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y python3-dev >/dev/null ||
            echo "setup: no python3-dev: the device image will be larger"
    else
        echo "setup: no headers of Python, so the device image will be larger: apt-get install python3-dev"
    fi
fi

echo "setup: virtual environment in $venv (about 280 packages, 2.4 GB; a few minutes the first time)"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
index=()
if [ -d "${TORCH_INDEX:-}" ]; then index=(--find-links "$TORCH_INDEX")
elif [ -n "${TORCH_INDEX:-}" ]; then index=(--extra-index-url "$TORCH_INDEX"); fi
"$venv/bin/pip" install --quiet --disable-pip-version-check "${index[@]}" -r requirements.lock
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --editable .
"$venv/bin/pip" check --disable-pip-version-check >/dev/null || fail "the installed packages do not fit together: make clean, then again"
