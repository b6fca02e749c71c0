#!/bin/sh
# Starts the service with a local, encrypted repository: http://127.0.0.1:8000/docs
set -eu
cd "$(dirname "$0")"
: "${COPAL_PASSPHRASE:=only for a trial}"
: "${BACKUPS:=$PWD/backups}"
export COPAL_PASSPHRASE BACKUPS
[ -e "$BACKUPS/copal.json" ] || python3 -c 'import copal, os; copal.init(os.environ["BACKUPS"], passphrase=os.environ["COPAL_PASSPHRASE"])'
exec python3 -m uvicorn main:app "$@"
