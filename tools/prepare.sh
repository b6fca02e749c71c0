#!/bin/sh
# Installs what the tests need, if it is missing: sqlite3, xfsprogs, a .venv with tools/requirements.txt, and DuckDBs to test with.
set -eu
cd "$(dirname "$0")/.."

missing=""
command -v sqlite3 >/dev/null || missing="$missing sqlite3"
# An XFS in a file is where clones can be tried; only root can mount it, and without it that test says SKIPPED.
[ "$(id -u)" != 0 ] || command -v mkfs.xfs >/dev/null || missing="$missing xfsprogs"
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

# DuckDBs for the tests of crates/duckdb, each in a folder of its own: PYTHONPATH=.venv/duckdb/VERSION; cli is the command.
find .venv/duckdb -maxdepth 1 -name '.new-*' -mmin +60 -exec rm -rf {} + 2>/dev/null || true
pids=""
for version in 1.1.3 1.3.2 1.4.5 1.5.6 2.0.0 cli; do
    folder=.venv/duckdb/$version
    package=duckdb==$version
    whole=$folder/duckdb-$version.dist-info
    if [ "$version" = cli ]; then
        package=duckdb-cli==1.5.6
        whole=$folder/duckdb_cli-1.5.6.dist-info
    fi
    [ -d "$whole" ] && continue
    (
        new=.venv/duckdb/.new-$version-$$
        rm -rf "$folder" "$new"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target "$new" "$package"
        [ ! -f "$new/duckdb_cli/duckdb" ] || chmod +x "$new/duckdb_cli/duckdb"
        # Whole or not at all; another run that was faster is as good.
        .venv/bin/python -c 'import os, sys; os.rename(*sys.argv[1:])' "$new" "$folder" 2>/dev/null || rm -rf "$new"
        [ -d "$whole" ]
    ) &
    pids="$pids $!"
done
for pid in $pids; do
    wait "$pid"
done
