"""What a client records of databases that it copies first, and what leaves the process with it."""

from __future__ import annotations

import copy
import pickle
import sqlite3
from pathlib import Path
from typing import Any, Dict

import pytest
from test_backups import count, make

import copal
from copal import _child, client, sources


def memory(table: str) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute(f"CREATE TABLE {table} (n INTEGER PRIMARY KEY, text)")
    return connection


@pytest.mark.parametrize("name", [None, "app"])
def test_a_duckdb_that_was_copied_through_its_connection_is_still_itself(
    repository: str, name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect("app.duckdb")
    connection.execute("CREATE TABLE t AS SELECT range AS n FROM range(10)")
    real, refuse = _child.run_in_child, []  # type: ignore[var-annotated]

    def busy(settings: Any, call: str, *rest: Any) -> Any:
        if call == "backup" and refuse:
            raise copal.BusyError(refuse.pop())
        return real(settings, call, *rest)

    monkeypatch.setattr(client, "run_in_child", busy)
    made = []
    # Also the very first one.
    for is_busy in (True, False, True, False):
        refuse += ["the database is written to without a pause"] * is_busy
        made.append(copal.backup(connection, name=name, repository=repository))
    assert not refuse
    (listed,) = copal.list_databases(repository=repository)
    assert {backup.database for backup in made} == {listed.database}
    assert [backup.id for backup in listed.backups] == [backup.id for backup in made]
    assert listed.source == f"duckdb:{Path('app.duckdb').resolve()}"
    assert copal.list_backups(connection if name is None else name, repository=repository) == made
    connection.close()


def test_a_database_in_memory_takes_no_name_over(repository: str) -> None:
    make("app.db", 3)
    copal.backup("app.db", name="app", repository=repository)
    first, second = memory("t"), memory("t")
    with pytest.raises(copal.UsageError, match=r"stands for .*app\.db"):
        copal.backup(first, name="app", repository=repository)
    copal.backup("app.db", name="app", repository=repository)
    # Memory has no place: what a later program keeps under the same name is the same database.
    copal.backup(first, name="cache", repository=repository)
    copal.backup(second, name="cache", repository=repository)
    with pytest.raises(copal.UsageError, match="stands for memory:sqlite/cache"):
        copal.backup("app.db", name="cache", repository=repository)
    copal.backup(first, name="app", adopt=True, repository=repository)
    assert len(copal.list_backups("app", repository=repository)) == 3


def test_a_database_in_memory_is_restored_where_it_is_told(repository: str) -> None:
    make("app.db", 3)
    source, connection = sqlite3.connect("app.db"), sqlite3.connect(":memory:")
    source.backup(connection)
    source.close()
    copal.backup(connection, name="cache", repository=repository)
    (verified,) = copal.verify("cache", drill=True, repository=repository)
    assert verified.is_good
    with pytest.raises(copal.UsageError, match="cannot be restored to memory:"):
        copal.restore("cache", repository=repository)
    copal.restore("cache", to="copy.db", repository=repository)
    assert count("copy.db") == 3


@pytest.mark.parametrize("text_factory", [bytes, bytearray, str])
def test_a_connection_is_known_whatever_it_makes_of_rows(repository: str, text_factory: Any) -> None:
    make("größe.db", 3)
    connection = sqlite3.connect("größe.db")

    def named(cursor: sqlite3.Cursor, row: "tuple[Any, ...]") -> Dict[str, Any]:
        return {column[0]: value for column, value in zip(cursor.description, row)}

    connection.row_factory, connection.text_factory = named, text_factory
    assert sources.text_of(connection) == f"sqlite:{Path('größe.db').resolve()}"
    copal.backup(connection, repository=repository)
    connection.execute("ATTACH 'other.db' AS other")
    in_memory = sqlite3.connect(":memory:")
    in_memory.row_factory, in_memory.text_factory = named, text_factory
    in_memory.execute("ATTACH 'other.db' AS other")
    assert sources.find(in_memory).text is None


@pytest.mark.parametrize(
    "secret",
    [
        {"passphrase": "not to be written"},
        {"identity": "not to be written"},
        {"s3": {"access_key_id": "a", "secret_access_key": "not to be written"}},
        {"s3": {"session_token": "not to be written"}},
    ],
)
def test_secrets_are_in_no_pickle(secret: Any) -> None:
    mine = copal.Copal("backups", **secret)
    for one in (mine, copal.aio.Copal("backups", **secret)):
        with pytest.raises(copal.UsageError, match="secrets") as raised:
            pickle.dumps(one)
        assert "not to be written" not in str(raised.value)
        copy.deepcopy(copy.copy(one))
    assert copy.deepcopy({"client": mine})["client"]._settings == mine._settings
    usual = copal.Copal("backups", config="copal.toml", s3={"endpoint": "http://127.0.0.1:9", "region": "r"})
    assert pickle.loads(pickle.dumps(usual))._settings == usual._settings
