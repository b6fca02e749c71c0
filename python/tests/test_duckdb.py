"""DuckDB databases that this process has open: live capture by a child process, and copies through the connection."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any, List

import pytest

import copal
from copal import client

duckdb = pytest.importorskip("duckdb")

INTRUDER = """
import duckdb, sys
try:
    duckdb.connect(sys.argv[1]).execute("SELECT 1")
except duckdb.IOException as error:
    print("locked" if "lock" in str(error) else error)
else:
    print("opened")
"""


def intrude(path: str) -> str:
    done = subprocess.run([sys.executable, "-c", INTRUDER, path], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def balance(path: str) -> Any:
    copy = duckdb.connect(path, read_only=True)
    found = copy.execute("SELECT count(*), sum(balance) FROM account").fetchone()
    copy.close()
    return found


@pytest.fixture
def bank() -> Any:
    connection = duckdb.connect("it's größe.duckdb")
    connection.execute("CREATE TABLE account AS SELECT range AS id, 100 AS balance FROM range(10000)")
    yield connection
    connection.close()


def test_backups_of_a_connection_that_writes(repository: str, bank: Any) -> None:
    stop, failures = threading.Event(), []  # type: ignore[var-annotated]

    def write() -> None:
        cursor, turn = bank.cursor(), 0
        try:
            while not stop.wait(0.002):
                turn += 1
                cursor.execute("BEGIN")
                cursor.execute("UPDATE account SET balance = balance - 1 WHERE id = ?", [turn % 10000])
                cursor.execute("UPDATE account SET balance = balance + 1 WHERE id = ?", [turn * 7 % 10000])
                cursor.execute("COMMIT")
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for turn in range(3):
            backup = copal.backup(bank, repository=repository)
            assert backup.engine == "duckdb"
            copal.restore(bank, to=f"copy{turn}.duckdb", repository=repository)
        assert "locked" in intrude("it's größe.duckdb")
    finally:
        stop.set()
        writer.join()
    assert not failures
    for turn in range(3):
        assert balance(f"copy{turn}.duckdb") == (10000, 1_000_000)
    assert bank.execute("SELECT sum(balance) FROM account").fetchone() == (1_000_000,)


def test_a_drill_uses_this_python(repository: str, bank: Any) -> None:
    copal.backup(bank, repository=repository)
    (verified,) = copal.verify(bank, drill=True, repository=repository)
    assert verified.drill is not None and verified.drill.performed and verified.is_good, verified


def test_what_cannot_be_read_alive_is_copied_through_the_connection(
    repository: str, bank: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A capture that gives up, as it does after its deadline under the heaviest writers.
    real, refused = client.run_in_child, []  # type: ignore[var-annotated]

    def busy(settings: Any, name: str, arguments: Any, tell: Any, cancellation: Any) -> Any:
        if name == "backup" and not refused:
            refused.append(real(settings, name, arguments, tell, cancellation))
            raise copal.BusyError("the database is written to without a pause")
        return real(settings, name, arguments, tell, cancellation)

    monkeypatch.setattr(client, "run_in_child", busy)
    backup = copal.backup(bank, repository=repository)
    assert refused and backup.database == refused[0]["database"]
    copal.restore(backup.database, to="copy.duckdb", backup=backup.id, repository=repository)
    assert balance("copy.duckdb") == (10000, 1_000_000)
    assert [row[0] for row in bank.execute("SELECT database_name FROM duckdb_databases() WHERE NOT internal").fetchall()] == [
        "it's größe"
    ]


def test_a_database_in_memory(repository: str) -> None:
    connection = duckdb.connect()
    connection.execute("CREATE TABLE account AS SELECT range AS id, 100 AS balance FROM range(1000)")
    connection.execute("CREATE VIEW rich AS SELECT * FROM account WHERE balance > 99")
    connection.execute("CREATE SCHEMA other; CREATE TABLE other.t (a INTEGER[]); INSERT INTO other.t VALUES ([1, 2])")
    with pytest.raises(copal.UsageError, match="needs a name"):
        copal.backup(connection, repository=repository)
    first = copal.backup(connection, name="cache", repository=repository)
    connection.execute("BEGIN; DELETE FROM account WHERE id < 500")
    # What is not committed is in no backup; a cursor sees what is.
    second = copal.backup(connection, name="cache", repository=repository)
    assert first.database == second.database == "cache"
    connection.execute("COMMIT")
    copal.backup(connection, name="cache", repository=repository)
    counts: List[int] = []
    for turn, backup in enumerate(copal.list_backups("cache", repository=repository)):
        copal.restore("cache", to=f"copy{turn}.duckdb", backup=backup.id, repository=repository)
        counts.append(balance(f"copy{turn}.duckdb")[0])
    assert counts == [1000, 1000, 500]
    copy = duckdb.connect("copy0.duckdb", read_only=True)
    assert copy.execute("SELECT count(*) FROM rich").fetchone() == (1000,)
    assert copy.execute("SELECT a FROM other.t").fetchone() == ([1, 2],)
