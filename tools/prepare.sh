#!/bin/sh
# Installs what the tests need, if it is missing: sqlite3, and a .venv with tools/requirements.txt.
set -eu
cd "$(dirname "$0")/.."

missing=""
command -v sqlite3 >/dev/null || missing="$missing sqlite3"
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    else
        echo "missing:$missing (install them; tests that need them will fail)" >&2
    fi
fi

if ! cmp -s tools/requirements.txt .venv/requirements.txt; then
    rm -rf .venv
    python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r tools/requirements.txt
    cp tools/requirements.txt .venv/requirements.txt
fi
