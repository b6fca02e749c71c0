"""Files of DictDB's formats read into a state; nothing of DictDB is needed for it."""

from __future__ import annotations

import contextlib
import json
from typing import Any, Dict, Iterator, List, Optional, Tuple

from ..errors import DamageError, UsageError
from .build import SCHEMA_TYPES
from .folder import MARK, check
from .plainpickle import read_pickle
from .protocol import State, TableState

__all__ = ["DICTDB_LACKS", "apply_delta", "read_delta", "read_full"]

#: What no file of DictDB's own manager says.
DICTDB_LACKS = (
    "it does not record indexes, the number of the next row, dropped tables, nor the primary key and schema of tables "
    "that were created between two full backups"
)

_Line = Optional[Dict[str, Any]]


def read_full(name: str, form: str, data: bytes, allow_pickle: bool) -> Tuple[State, _Line]:
    """The state of a full, and Copal's line if it has one."""
    if form == "pickle" and not allow_pickle:
        raise UsageError(
            f"{name} is a pickle", hint="if you trust whoever can write to the folder, say allow_pickle=True"
        )
    line = check(name, data)
    with _readable(name):
        if form == "pickle":
            state = read_pickle(name, data if line is None else data[: data.rfind(MARK)])
        else:
            state = {}
            for table, content in _tables(name, _document(name, data)).items():
                state[table] = _full_table(name, table, content)
        for table, about in (line or {}).get("tables", {}).items():
            _define(state[table], about)
    return state, line


def read_delta(name: str, data: bytes) -> Tuple[Dict[str, Any], _Line]:
    """A delta's document, and Copal's line if it has one."""
    line = check(name, data)
    document = _document(name, data)
    if document.get("type") != "delta":
        raise DamageError(f"{name} is no delta")
    _tables(name, document)
    return document, line


def apply_delta(name: str, state: State, document: Dict[str, Any], line: _Line) -> List[str]:
    """Changes the state to what it was when the delta was made. The answer tells what is not certain.

    After an error the state is of no use.
    """
    with _readable(name):
        return _apply(state, document, line)


def _apply(state: State, document: Dict[str, Any], line: _Line) -> List[str]:
    doubts: List[str] = []
    for table in (line or {}).get("dropped", ()):
        state.pop(table, None)
    for name, changes in document["tables"].items():
        about = None if line is None else line["tables"][name]
        if about is not None and (about["created"] or name not in state):
            state[name] = TableState(about["primary_key"], _schema(name, about["schema"]), {})
        elif name not in state:
            doubt = _created_unseen(state, name, changes)
            doubts.append(doubt)
            if name not in state:
                continue
        table = state[name]
        upserts, keys = changes.get("upserts") or [], changes.get("keys")
        if about is None:
            # DictDB's own order. Both lists never name the same row, but for rows whose key was changed.
            _upsert(table, upserts, None)
            _delete(table, changes)
        else:
            _delete(table, changes)
            _upsert(table, upserts, keys)
            table.schema = _schema(name, about["schema"])
            _define(table, about)
    return doubts


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    """Whatever a file has in a place where something else belongs is damage."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise DamageError(f"{name} is damaged or no backup of DictDB", causes=[repr(error)]) from error


def _document(name: str, data: bytes) -> Dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamageError(f"{name} is cut off or damaged", causes=[str(error)]) from error
    if not isinstance(document, dict):
        raise DamageError(f"{name} is no backup of DictDB")
    return document


def _tables(name: str, document: Dict[str, Any]) -> Dict[str, Any]:
    tables = document.get("tables")
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise DamageError(f"{name} is no backup of DictDB")
    return tables


def _full_table(file: str, name: str, content: Dict[str, Any]) -> TableState:
    try:
        table = TableState(content["primary_key"], _schema(name, content["schema"]), {})
        _upsert(table, content["records"], content.get("keys"))
    except (KeyError, TypeError, AttributeError) as error:
        raise DamageError(f"{file}: table {name!r} cannot be read", causes=[repr(error)]) from error
    if len(table.rows) != len(content["records"]):
        raise DamageError(f"{file}: table {name!r} has several rows with the same primary key")
    return table


def _schema(table: str, names: Optional[Dict[str, str]]) -> Optional[Dict[str, type]]:
    if names is None:
        return None
    try:
        return {field: SCHEMA_TYPES[known] for field, known in names.items()}
    except (KeyError, TypeError) as error:
        raise DamageError(f"the schema of table {table!r} names an unknown type {error}") from error


def _define(table: TableState, about: Dict[str, Any]) -> None:
    if about["next_key"] is not None and type(about["next_key"]) is not int:
        raise TypeError(f"the number of the next row is {about['next_key']!r}")
    table.next_key = about["next_key"]
    table.indexes = dict(about["indexes"])


def _upsert(table: TableState, rows: List[Dict[str, Any]], keys: Optional[List[Any]]) -> None:
    if not all(isinstance(row, dict) for row in rows) or (keys is not None and len(keys) != len(rows)):
        raise TypeError("what stands for rows is none")
    if keys is not None:
        table.rows.update(zip(keys, rows))
        return
    field = str(table.primary_key)
    for row in rows:
        if field not in row:
            # As DictDB's insert does.
            row[field] = max((key for key in table.rows if isinstance(key, int)), default=0) + 1
        table.rows[row[field]] = row


def _delete(table: TableState, changes: Dict[str, Any]) -> None:
    for key in changes.get("deletes") or []:
        table.rows.pop(key, None)


def _created_unseen(state: State, name: str, changes: Dict[str, Any]) -> str:
    """A table of which DictDB's delta has rows, but no full has the definition."""
    rows = changes.get("upserts") or []
    keys = {row["id"] for row in rows if isinstance(row.get("id"), (int, str))}
    if len(keys) == len(rows):
        state[name] = TableState("id", None, {})
        return f"table {name!r} is in no full backup before; its primary key is not recorded and taken to be 'id'"
    return f"table {name!r} is in no full backup before; its primary key is not recorded, and its {len(rows)} rows are lost"
