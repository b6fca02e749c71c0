"""A database that this very process has open, and writes to, keeps its locks and stays whole."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from typing import Any, Callable, Dict, List

import pytest
from test_backups import count, make

import copal

INTRUDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
try:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO t (text) VALUES ('intruder')")
    connection.execute("COMMIT")
except sqlite3.OperationalError as error:
    print(error)
else:
    print("written")
"""


def intrude(path: str) -> str:
    """What a second process is told that wants to write."""
    done = subprocess.run([sys.executable, "-c", INTRUDER, path], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


CALLS: Dict[str, Callable[[Any], Any]] = {
    "backup by path": lambda options: copal.backup("app.db", **options),
    "list": lambda options: copal.list_backups("app.db", **options),
    "status": lambda options: copal.status("app.db", **options),
    "restore elsewhere": lambda options: copal.restore("app.db", to="copy.db", replace=True, **options),
    "restore looked at": lambda options: copal.restore("app.db", replace=True, dry_run=True, **options),
    "verify with a drill": lambda options: copal.verify("app.db", drill=True, **options),
    "prune": lambda options: copal.prune("app.db", keep={"last": 9}, **options),
    "pin": lambda options: copal.pin("app.db", **options),
    "snap": lambda options: copal.snap("app.db"),
    "list snapshots": lambda options: copal.list_snapshots("app.db"),
}


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_locks_survive_every_call(repository: str, journal: str) -> None:
    make("app.db")
    connection = sqlite3.connect("app.db", isolation_level=None)
    connection.execute(f"PRAGMA journal_mode = {journal}")
    copal.backup(connection, repository=repository)
    options = {"repository": repository}
    for what, call in CALLS.items():
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t (text) VALUES ('mine')")
        call(options)
        assert "locked" in intrude("app.db"), what
        connection.execute("COMMIT")
    connection.execute("BEGIN IMMEDIATE")
    copal.backup(connection, repository=repository)
    assert "locked" in intrude("app.db")
    # That the test can tell: this is what no call may do here.
    if journal == "delete":
        os.close(os.open("app.db", os.O_RDONLY))
        assert intrude("app.db") == "written"
    connection.close()


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_backups_under_a_writer_of_this_process_are_whole(repository: str, journal: str) -> None:
    connection = sqlite3.connect("app.db", isolation_level=None, check_same_thread=False, timeout=60)
    connection.execute(f"PRAGMA journal_mode = {journal}")
    connection.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER)")
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO account (balance) VALUES (?)", [(100,)] * 2000)
    connection.execute("COMMIT")
    stop = threading.Event()
    failures: List[BaseException] = []

    def write() -> None:
        try:
            turn = 0
            while not stop.wait(0.001):
                turn += 1
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("UPDATE account SET balance = balance - 1 WHERE id = ?", (turn % 2000 + 1,))
                connection.execute("UPDATE account SET balance = balance + 1 WHERE id = ?", (turn * 7 % 2000 + 1,))
                connection.execute("COMMIT")
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for turn in range(4):
            copal.backup("app.db", repository=repository)
            copal.restore("app.db", to=f"copy{turn}.db", repository=repository, check="full")
    finally:
        stop.set()
        writer.join()
        connection.close()
    assert not failures
    for turn in range(4):
        copy = sqlite3.connect(f"copy{turn}.db")
        assert copy.execute("SELECT count(*), sum(balance) FROM account").fetchone() == (2000, 200_000)
        copy.close()


def test_a_call_leaves_no_descriptor_of_the_file_behind_that_it_could_close(repository: str) -> None:
    make("app.db")
    copal.backup("app.db", repository=repository)
    copal.restore("app.db", to="copy.db", repository=repository)
    copal.verify("app.db", drill=True, repository=repository)
    count("app.db")
    copal.snap("app.db")
    opened = {os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")}
    assert os.path.realpath("app.db") not in opened and os.path.realpath("copy.db") not in opened
