#!/bin/sh
# Production: migrates once, then serves with two workers. One of them makes each backup.
set -eu
cd "$(dirname "$0")"
: "${DATABASE_URL:?postgresql+psycopg://user:password@host/shop}" "${BACKUPS:?s3://bucket/prefix}" "${COPAL_PASSPHRASE:?}"
python3 -m alembic upgrade head
export MIGRATE=0
exec python3 -m uvicorn main:app --workers 2 "$@"
