"""States made into tables of DictDB, which is imported only here."""

from __future__ import annotations

import importlib
from typing import Any, Dict

from ..errors import UnsupportedError, UsageError
from .protocol import State, TableState

__all__ = ["SCHEMA_TYPES", "build_dictdb", "build_tables", "import_dictdb", "schema_names"]

#: The types that DictDB's files can name.
SCHEMA_TYPES: Dict[str, type] = {"int": int, "str": str, "float": float, "bool": bool, "list": list, "dict": dict}
_NAMES = {known: name for name, known in SCHEMA_TYPES.items()}


def import_dictdb(part: str = "dictdb") -> Any:
    """A module of DictDB. ``UnsupportedError`` where DictDB is not installed."""
    try:
        return importlib.import_module(part)
    except ImportError as error:
        raise UnsupportedError("DictDB cannot be imported", causes=[str(error)], hint="pip install dctdb") from error


def schema_names(schema: Dict[str, type]) -> Dict[str, str]:
    """A schema as files have it. ``ValueError`` for a type that they cannot name."""
    for known in schema.values():
        if known not in _NAMES:
            raise ValueError(f"Cannot serialize type: {getattr(known, '__name__', known)}")
    return {field: _NAMES[known] for field, known in schema.items()}


def build_dictdb(state: State) -> Any:
    """A new DictDB with these tables and their indexes."""
    db = import_dictdb().DictDB()
    db.tables = build_tables(state)
    return db


def build_tables(state: State) -> Dict[str, Any]:
    """New tables, filled and with their indexes. Rows are the state's own dicts. ``UsageError`` for those of plain dicts."""
    make = import_dictdb().Table
    tables = {}
    for name, known in state.items():
        if known.primary_key is None:
            message = f"table {name!r} was saved from plain dicts, whose rows do not hold their keys"
            raise UsageError(message, hint="load it as plain dicts")
        table = make(name, primary_key=known.primary_key, schema=None)
        table.schema = known.schema
        table.records = known.rows
        table._next_pk = next_key(known)
        for field, kind in known.indexes.items():
            table.create_index(field, kind)
            if field not in table.indexes:
                raise UnsupportedError(f"DictDB could not build the {kind} index on field {field!r} of table {name!r}")
        tables[name] = table
    return tables


def next_key(table: TableState) -> int:
    """The recorded number for the next row, or else, as DictDB counts itself, the one after the highest."""
    if table.next_key is not None:
        return table.next_key
    return max((key + 1 for key in table.rows if isinstance(key, int) and key >= 0), default=1)
