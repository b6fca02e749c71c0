"""A ledger on SQLite that backs itself up: every night at three, kept for five days."""

import os
import sqlite3
from contextlib import contextmanager
from typing import Dict, Iterator

from copal.contrib.fastapi import lifespan, router
from copal.jobs import Job
from fastapi import FastAPI
from pydantic import BaseModel

DATABASE = os.environ.get("DATABASE", "ledger.db")
REPOSITORY = os.environ.get("BACKUPS", "backups")
SCHEDULE = os.environ.get("BACKUP_SCHEDULE", "0 3 * * *")

JOBS = [Job(DATABASE, SCHEDULE, keep={"within": "5d"}, name="ledger")]

app = FastAPI(title="Ledger", lifespan=lifespan(JOBS, repository=REPOSITORY))
# Say who may see and start backups: router(dependencies=[Depends(only_admins)]).
app.include_router(router())


class Entry(BaseModel):
    """Something that was paid."""

    text: str
    cents: int


@contextmanager
def connect() -> Iterator[sqlite3.Connection]:
    """A connection for one request; what it did is committed unless something went wrong."""
    connection = sqlite3.connect(DATABASE, timeout=30)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


with connect() as setup:
    if setup.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        setup.execute("PRAGMA journal_mode = WAL")
    setup.execute("CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, text TEXT, cents INTEGER)")
    setup.execute("CREATE TABLE IF NOT EXISTS balance (id INTEGER PRIMARY KEY CHECK (id = 1), cents INTEGER)")
    setup.execute("INSERT OR IGNORE INTO balance VALUES (1, 0)")


@app.post("/entries", status_code=201)
def add(entry: Entry) -> Dict[str, int]:
    """Adds an entry to the ledger and its amount to the balance, both or neither."""
    with connect() as connection:
        row = connection.execute("INSERT INTO entries (text, cents) VALUES (?, ?)", (entry.text, entry.cents))
        connection.execute("UPDATE balance SET cents = cents + ?", (entry.cents,))
        return {"id": row.lastrowid or 0}


@app.get("/balance")
def balance() -> Dict[str, int]:
    """The sum of all entries."""
    with connect() as connection:
        (cents,) = connection.execute("SELECT cents FROM balance").fetchone()
        return {"cents": cents}
