"""Backups of in-memory tables: DictDB's and plain dicts of dicts."""

from __future__ import annotations

import datetime
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional, Union

from ..errors import UsageError
from .protocol import CheckedBackup, Destination, IncompleteBackupWarning, SavedBackup, Source

if TYPE_CHECKING:
    from ..client import Copal
    from .protocol import State

__all__ = [
    "CheckedBackup",
    "Destination",
    "IncompleteBackupWarning",
    "SavedBackup",
    "Source",
    "load_dictdb",
    "load_store",
    "load_tables",
]

_Folder = Union[str, "os.PathLike[str]"]


def load_dictdb(directory: _Folder, at: Optional[datetime.datetime] = None, *, allow_pickle: bool = False) -> Any:
    """A new ``dictdb.DictDB`` from a folder of backups, of Copal's :class:`copal.BackupManager` or of DictDB's own.

    The state is the newest one, or the newest not later than ``at`` (an aware datetime). Indexes are rebuilt. What DictDB's own
    files do not hold is told as :class:`copal.IncompleteBackupWarning`. ``NotFoundError`` if there is no backup, ``DamageError``
    if one that is needed is damaged or missing; its hint says how to ask for the state before. Pickles are refused
    (``UsageError``) unless ``allow_pickle``, and even then only DictDB's classes and plain values are read.
    """
    from .build import build_dictdb

    return build_dictdb(_load(directory, at, allow_pickle))


def load_tables(
    directory: _Folder, at: Optional[datetime.datetime] = None, *, allow_pickle: bool = False
) -> Dict[str, Dict[Any, Dict[str, Any]]]:
    """The same as plain dicts: rows by key, by table. DictDB is not needed."""
    return {name: table.rows for name, table in _load(directory, at, allow_pickle).items()}


def load_store(
    repository: "Union[str, os.PathLike[str], Copal, None]",
    name: str,
    at: Optional[datetime.datetime] = None,
    *,
    kind: str = "dictdb",
    passphrase: Optional[str] = None,
) -> Any:
    """What a :class:`copal.BackupManager` saved to a repository under a name: a new ``dictdb.DictDB``, or plain dicts.

    :param repository: a folder, a URL, a :class:`copal.Copal`; None for what the command would find.
    :param name: the ``name`` of the manager.
    :param at: the newest state not later than this time (aware; in whole seconds it means the whole second), else the newest.
    :param kind: ``"dictdb"``, or ``"dict"`` for ``{table: {key: row}}``, which everything can be loaded as.
    :param passphrase: of the repository, if it is not found as the command finds it.

    Indexes are rebuilt, and values are what they were. ``NotFoundError`` if there is no such backup, ``DamageError`` if a delta that is
    needed is missing, foreign or damaged, ``UsageError`` if plain dicts are asked for as a DictDB.
    """
    if kind not in ("dictdb", "dict"):
        raise UsageError(f"kind must be 'dictdb' or 'dict', not {kind!r}")
    from .repository import load_state, settings_of

    state = load_state(settings_of(repository, passphrase), name, at)
    if kind == "dict":
        return {table: known.rows for table, known in state.items()}
    from .build import build_dictdb

    return build_dictdb(state)


def _load(directory: _Folder, at: Optional[datetime.datetime], allow_pickle: bool) -> State:
    from .loading import load_state

    return load_state(Path(directory), at, allow_pickle, warn_incomplete)[1]


def warn_incomplete(sentence: str) -> None:
    """Tells the program what a backup does not hold, at the line that called Copal."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "copal":
        frame, level = frame.f_back, level + 1
    warnings.warn(sentence, IncompleteBackupWarning, stacklevel=level)
