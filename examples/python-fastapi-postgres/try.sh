#!/bin/sh
# The service with a PostgreSQL of its own and a local repository, both in ./trial: http://127.0.0.1:8000/docs
# Needs PostgreSQL's programs, and a user that is not root.
set -eu
cd "$(dirname "$0")"
for bin in /usr/lib/postgresql/*/bin /opt/homebrew/bin /usr/local/bin; do
    [ ! -x "$bin/initdb" ] || PATH=$bin:$PATH
done
trial=$PWD/trial
: "${PORT:=54329}"
export BACKUPS="$trial/backups" COPAL_PASSPHRASE="only for a trial"
export DATABASE_URL="postgresql+psycopg://shop@127.0.0.1:$PORT/shop"
[ -e "$trial/data/PG_VERSION" ] || initdb --username=shop --auth=trust -D "$trial/data" >/dev/null
pg_ctl -w -l "$trial/log" -o "-p $PORT -k $trial -c listen_addresses=127.0.0.1" -D "$trial/data" start >/dev/null
trap 'pg_ctl -m fast -D "$trial/data" stop >/dev/null' EXIT
createdb -h 127.0.0.1 -p "$PORT" -U shop shop 2>/dev/null || true
[ -e "$BACKUPS/copal.json" ] || python3 backups.py init
python3 -m uvicorn main:app "$@" || true
