"""Pickles of DictDB read without running anything of theirs: only its two classes, as inert stand-ins, and plain values."""

from __future__ import annotations

import io
import pickle
from typing import Any, Dict, FrozenSet, Type

from ..errors import DamageError
from .protocol import State, TableState

__all__ = ["is_restorable", "read_pickle"]

#: The classes that a pickle may name. None of them does anything but hold its value.
_PLAIN: Dict[str, FrozenSet[str]] = {
    "builtins": frozenset(
        ("dict", "list", "set", "frozenset", "tuple", "str", "int", "float", "bool", "bytes", "bytearray", "complex")
    ),
    "collections": frozenset(("OrderedDict",)),
    "datetime": frozenset(("date", "datetime", "time", "timedelta", "timezone")),
    "decimal": frozenset(("Decimal",)),
    "uuid": frozenset(("UUID",)),
}


class _Fixed(type):
    """Of the stand-ins: a pickle may set attributes of their objects, not of the classes."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise AttributeError(f"{cls.__name__} cannot be changed")

    def __delattr__(cls, name: str) -> None:
        raise AttributeError(f"{cls.__name__} cannot be changed")


class _Database(metaclass=_Fixed):
    """Stands for ``dictdb.DictDB``."""

    tables: Any = None


class _Table(metaclass=_Fixed):
    """Stands for ``dictdb.Table``."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


_STANDINS: "Dict[tuple[str, str], Type[Any]]" = {
    ("dictdb.storage.database", "DictDB"): _Database,
    ("dictdb.core.table", "Table"): _Table,
}


def is_restorable(known: type) -> bool:
    """Whether values of the class, and the class itself, can be read back."""
    name = (known.__module__, known.__qualname__)
    return name in _STANDINS or known.__qualname__ in _PLAIN.get(known.__module__, ())


class _Unpickler(pickle.Unpickler):
    """Reads one pickle, with stand-ins of its own: nothing that it does to them lasts."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self._standins = {name: _Fixed(known.__name__, (known,), {}) for name, known in _STANDINS.items()}

    def find_class(self, module: str, name: str) -> Any:
        standin = self._standins.get((module, name))
        if standin is not None:
            return standin
        if name in _PLAIN.get(module, ()):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is neither of DictDB nor a plain value")


def read_pickle(name: str, data: bytes) -> State:
    """The tables of a pickled DictDB or dict of dicts. ``DamageError`` for anything else."""
    stream = io.BytesIO(data)
    try:
        content = _Unpickler(stream).load()
    except Exception as error:
        raise DamageError(f"{name} cannot be read", causes=[f"{type(error).__name__}: {error}"]) from error
    if stream.tell() != len(data):
        raise DamageError(f"{name} is damaged: something follows the end of the pickle")
    if isinstance(content, dict):
        tables = {table: TableState(None, None, rows) for table, rows in content.items()}
    elif isinstance(content, _Database) and isinstance(content.tables, dict):
        tables = {table: _table(name, pickled) for table, pickled in content.tables.items()}
    else:
        raise DamageError(f"{name} holds no DictDB")
    for table, known in tables.items():
        if not isinstance(table, str) or not _is_rows(known.rows):
            raise DamageError(f"{name} holds no tables of rows")
    return tables


def _table(name: str, pickled: Any) -> TableState:
    state = pickled.state if isinstance(pickled, _Table) else None
    if not isinstance(state, dict) or not isinstance(state.get("primary_key"), str):
        raise DamageError(f"{name} holds no DictDB")
    schema = state.get("schema")
    if schema is not None and not (
        isinstance(schema, dict)
        and all(isinstance(field, str) and isinstance(kind, type) for field, kind in schema.items())
    ):
        raise DamageError(f"{name} holds a table with an unreadable schema")
    next_key = state.get("_next_pk")
    return TableState(
        state["primary_key"], schema, state.get("records") or {}, next_key if type(next_key) is int else None
    )


def _is_rows(rows: Any) -> bool:
    return isinstance(rows, dict) and all(isinstance(row, dict) for row in rows.values())
