#!/bin/sh
# One migration that goes well, and one that fails half way: afterwards the notes are all there.
set -eu
cd "$(dirname "$0")"
rm -f notes.db
python3 manage.py migrate_safely notes 0001
echo "--- now one that deletes notes and then fails"
python3 manage.py migrate_safely 2>&1 | tail -n 2
python3 -c 'import sqlite3; print(*sqlite3.connect("notes.db").execute("SELECT * FROM notes_note"), sep="\n")'
