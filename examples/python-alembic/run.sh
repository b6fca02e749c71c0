#!/bin/sh
# Two migrations that go well, and one that fails half way: afterwards the books are all there.
set -eu
cd "$(dirname "$0")"
rm -f library.db
python3 -m alembic upgrade 0002
echo "--- now one that deletes books and then fails"
python3 -m alembic upgrade 0003 || echo "--- it failed; what is in the database now:"
python3 -c 'import sqlite3; print(*sqlite3.connect("library.db").execute("SELECT * FROM books"), sep="\n")'
