"""Views written as files of DictDB's formats, whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import secrets
from pathlib import Path
from typing import Any, Dict, Iterator, List

from .build import import_dictdb, schema_names
from .folder import END, MARK
from .plainpickle import is_restorable
from .protocol import TableView, View

__all__ = ["STAGING", "Staged", "staged", "write_delta", "write_json", "write_line", "write_pickle"]

#: How names of unfinished files begin; they are deleted by the next manager that writes to the folder.
STAGING = ".copal-staging-"
_ROWS = ",\n                "
_BUFFER_BYTES = 128 * 1024


class Staged:
    """A file under a name that nobody reads, until it is complete and durable."""

    def __init__(self, directory: Path, durable: bool) -> None:
        self.path = directory / f"{STAGING}{os.getpid()}-{secrets.token_hex(4)}"
        self.size = 0
        self._directory = directory
        self._durable = durable
        self._hash = hashlib.sha256()
        self._waiting: List[bytes] = []
        self._waiting_bytes = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        self.file = os.open(self.path, flags, 0o666)

    def write(self, data: Any) -> int:
        """Appends bytes; pickle calls it, too."""
        self._waiting.append(bytes(data))
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= _BUFFER_BYTES:
            self._flush()
        return len(data)

    def digest(self) -> str:
        """SHA-256 of all that was written so far."""
        self._flush()
        return self._hash.hexdigest()

    def _flush(self) -> None:
        data = b"".join(self._waiting)
        self._waiting, self._waiting_bytes = [], 0
        self._hash.update(data)
        self.size += len(data)
        rest = memoryview(data)
        while len(rest) > 0:
            rest = rest[os.write(self.file, rest) :]

    def publish(self, target: Path) -> None:
        """Gives the file its name. After an error there is no file of that name."""
        self._flush()
        if self._durable:
            os.fsync(self.file)
        os.replace(self.path, target)
        try:
            if self._durable:
                _sync_folder(self._directory)
        except BaseException:
            os.unlink(target)
            raise


@contextlib.contextmanager
def staged(directory: Path, durable: bool) -> Iterator[Staged]:
    """A staged file, which is gone afterwards unless it was published."""
    file = Staged(directory, durable)
    try:
        yield file
    finally:
        os.close(file.file)
        with contextlib.suppress(OSError):
            os.unlink(file.path)


def _sync_folder(directory: Path) -> None:
    if os.name == "nt":
        return
    folder = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(out: Staged, view: View) -> None:
    """A full as DictDB writes it, byte for byte, up to Copal's line."""
    out.write(b'{\n    "tables": {')
    for position, table in enumerate(view.tables):
        schema = None if table.schema is None else schema_names(table.schema)
        head = [
            "," if position else "",
            f"\n        {json.dumps(_name(table.name))}: {{\n",
            f'            "primary_key": {json.dumps(table.primary_key)},\n',
            f'            "schema": {json.dumps(schema)},\n',
            '            "records": [',
        ]
        out.write("".join(head).encode())
        _write_rows(out, table, b"\n                ", _ROWS.encode(), exact=False)
        out.write(b"\n            ]")
        _write_keys(out, table, exact=False)
        out.write(b"\n        }")
    out.write(b"\n    },")


def write_delta(out: Staged, view: View, exact: bool) -> None:
    """A delta in DictDB's format. ``exact`` raises ``TypeError`` for values that JSON would bring back as another type."""
    out.write(f'{{\n    "type": "delta",\n    "timestamp": {view.taken!r},\n    "tables": {{'.encode())
    for position, table in enumerate(view.tables):
        comma = "," if position else ""
        out.write(f'{comma}\n        {json.dumps(_name(table.name))}: {{\n            "upserts": ['.encode())
        _write_rows(out, table, b"\n                ", _ROWS.encode(), exact)
        out.write(f'\n            ],\n            "deletes": {_keys(table.name, table.deletes, exact)}'.encode())
        _write_keys(out, table, exact)
        out.write(b"\n        }")
    out.write(b"\n    },")


def write_pickle(out: Staged, view: View) -> None:
    """A full as DictDB pickles it, or of plain dicts as they are."""
    if view.is_plain:
        content: Any = {table.name: dict(zip(table.rows.keys or (), _dicts(table))) for table in view.tables}
    else:
        content = _database(view.tables)
    _Pickler(out).dump(content)


def write_line(out: Staged, line: Dict[str, Any]) -> None:
    """Copal's line with the digest of all before it, and the end."""
    text = json.dumps(line)
    out.write(MARK + text[:-1].encode() + b', "sha256": "')
    out.write(out.digest().encode() + END)


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a table's name must be a str, not {type(name).__name__}")
    return name


def _write_rows(out: Staged, table: TableView, before: bytes, separator: bytes, exact: bool) -> None:
    rows = table.rows
    if rows.odd_key is not None:
        raise TypeError(f"JSON cannot hold the key {rows.odd_key!r} of table {table.name!r}")
    for block in range(rows.blocks):
        out.write(before if block == 0 else separator)
        try:
            out.write(rows.json(block, separator, exact))
        except (TypeError, ValueError) as error:
            # The type stays: callers and callbacks tell what JSON cannot hold from other failures by it.
            raise type(error)(f"table {table.name!r}: {error}") from error
        rows.release(block)


def _write_keys(out: Staged, table: TableView, exact: bool) -> None:
    if table.rows.keys is not None:
        out.write(f',\n            "keys": {_keys(table.name, table.rows.keys, exact)}'.encode())


def _keys(table: str, keys: List[Any], exact: bool) -> str:
    for key in keys:
        if not (key is None or isinstance(key, (str, int, float))):
            raise TypeError(f"JSON cannot hold the key {key!r} of table {table!r}")
    return json.dumps(keys)


def _dicts(table: TableView) -> Iterator[Dict[str, Any]]:
    for block in range(table.rows.blocks):
        yield from table.rows.dicts(block)
        table.rows.release(block)


def _database(tables: List[TableView]) -> Any:
    """A DictDB that holds the rows of the view, made for being pickled only."""
    table_class = import_dictdb("dictdb.core.table").Table
    database_class = import_dictdb("dictdb.storage.database").DictDB
    made = {}
    for view in tables:
        rows = list(_dicts(view))
        keys = view.rows.keys
        if keys is None:
            keys = [row[str(view.primary_key)] for row in rows]
        table = table_class.__new__(table_class)
        table.table_name, table.primary_key, table.schema = view.name, view.primary_key, view.schema
        table.records, table._next_pk = dict(zip(keys, rows)), view.next_key
        made[_name(view.name)] = table
    database = database_class.__new__(database_class)
    database.tables = made
    return database


class _Pickler(pickle.Pickler):
    """Refuses what could not be restored afterwards. The file's own ``write`` lets other threads run between frames."""

    def reducer_override(self, value: Any) -> Any:
        known = value if isinstance(value, type) else type(value)
        if is_restorable(known):
            return NotImplemented
        name = f"{known.__module__}.{known.__qualname__}"
        raise pickle.PicklingError(f"a value of class {name} could not be restored from a pickle")
