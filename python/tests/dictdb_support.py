"""What the tests of BackupManager share: databases of DictDB, and their content as plain values."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import Any, Dict

import pytest

dictdb = pytest.importorskip("dictdb", reason="DictDB (PyPI: dctdb) is not installed")
dictdb.logger.remove()
logging.getLogger("dictdb").disabled = True


def database(rows: int = 5) -> Any:
    """One table with both kinds of index and a schema."""
    db = dictdb.DictDB()
    db.tables["users"] = dictdb.Table("users", schema={"id": int, "name": str, "age": int})
    users = db.get_table("users")
    users.create_index("name")
    users.create_index("age", "sorted")
    for number in range(1, rows + 1):
        users.insert({"id": number, "name": f"user {number}", "age": number % 90})
    return db


def content(db: Any) -> Dict[str, Any]:
    """Everything that a restore has to bring back, independent of the objects."""
    return {
        name: {
            "primary_key": table.primary_key,
            "schema": table.schema,
            "rows": {key: dict(row) for key, row in table.records.items()},
            "next": table._next_pk,
            "indexes": {field: type(index).__name__ for field, index in table.indexes.items()},
        }
        for name, table in db.tables.items()
    }


def rows(db: Any) -> Dict[str, Any]:
    """The rows alone."""
    return {name: {key: dict(row) for key, row in table.records.items()} for name, table in db.tables.items()}


def raising(error: Exception, _failures: int) -> None:
    """A callback for tests in which no backup may fail."""
    raise AssertionError(f"a backup failed: {error!r}") from error


class Failures(list):  # type: ignore[type-arg]
    """A callback that notes what failed."""

    def __call__(self, error: Exception, failures: int) -> None:
        self.append((error, failures))


def environment() -> Dict[str, str]:
    """For a Python of its own that imports this module."""
    path = os.pathsep.join(filter(None, [os.path.dirname(__file__), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


def run(script: str, *arguments: str, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
    """Runs a script in a Python of its own."""
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=timeout, check=False)
