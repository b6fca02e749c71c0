"""A folder of files in DictDB's formats as a destination of backups."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import secrets
import weakref
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

from .._values import format_time
from ..errors import PrunedError, UsageError
from .build import schema_names
from .check import check_files
from .folder import LAST_SECOND, PRUNED_NAME, BackupFile, FolderLock, file_named, read_pruned, scan, time_of
from .loading import load_state
from .protocol import CheckedBackup, NeedsFull, SavedBackup, State, View
from .retention import superfluous
from .writing import STAGING, staged, write_delta, write_json, write_line, write_pickle

__all__ = ["FilesDestination"]

_log = logging.getLogger("copal.manager")
#: A name that is so much later than the clock was given by a clock that was ahead: then the line has the time.
_AHEAD_MICROSECONDS = 1_000_000
_WRONG_MICROSECONDS = 86_400_000_000
#: How often files are read again that are deleted meanwhile.
_ATTEMPTS = 50
#: Who wrote last to a folder in this process.
_WRITERS: "weakref.WeakValueDictionary[str, FilesDestination]" = weakref.WeakValueDictionary()


class FilesDestination:
    """Fulls and deltas in one folder. ``durable`` waits until the disk has each file before it gets its name.

    A folder belongs to one database. ``database`` is the one whose views are stored, by which two in one process are told apart.
    """

    def __init__(
        self,
        directory: "Union[str, os.PathLike[str]]",
        file_format: str = "json",
        durable: bool = True,
        database: Any = None,
    ) -> None:
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        #: Of the next fulls; an unknown one is an error of the backup, as it is with DictDB.
        self.file_format = file_format.lower()
        self._durable = durable
        self._lock = FolderLock(self.directory)
        #: The backups of the current chain, each as its name, digest and size: the full first.
        self._chain: List[_Link] = []
        self._chain_id = ""
        self._swept = False
        self._database = database
        self._has_written = False
        #: The last backup that was stored and the full that it stands on, whatever became of the chain since.
        self._stored: Optional[Tuple[_Link, _Link]] = None
        #: The moments of files, which never change.
        self._moments: Dict[str, datetime.datetime] = {}

    def full(self, view: View) -> SavedBackup:
        form = self.file_format
        if form not in ("json", "pickle"):
            raise ValueError("Unsupported file_format. Please use 'json' or 'pickle'.")
        with self._lock.held() as note:
            self._refuse_another_database()
            self._sweep()
            if read_pruned(self.directory) is None:
                # What was deleted before, nobody knows.
                self._note_pruned({file.name for file in scan(self.directory) if file.kind == "full"})
            self._chain_id, self._chain = secrets.token_hex(8), []
            last = {key: note.get(key) for key in ("name", "sha256", "time")}
            follows = last if all(isinstance(value, str) for value in last.values()) else None
            return self._write(view, f"dictdb_backup_{{}}.{form}", form, self._next(view, note), follows)

    def delta(self, view: View) -> SavedBackup:
        with self._lock.held() as note:
            self._refuse_another_database()
            if not self._chain:
                raise NeedsFull("no full backup was made yet")
            if note.get("sha256") != self._chain[-1].sha256:
                raise NeedsFull("another manager wrote to the folder since")
            for link in (self._chain[0], self._chain[-1]):
                if not link.is_there(self.directory):
                    raise NeedsFull(f"{link.name} is not there any more")
            last = self._chain[-1]
            follows = {"name": last.name, "sha256": last.sha256, "time": last.time}
            return self._write(view, "dictdb_delta_{}.json", "json", self._next(view, note), follows)

    def has_last(self) -> bool:
        if self._stored is None or all(link.is_there(self.directory) for link in self._stored):
            return True
        # A folder that is missing cannot be reached, as when its disk is away. An empty one can.
        os.stat(os.path.join(self.directory, "."))
        self._refuse_another_database()
        # Another manager's later backup has the same state, and its rules may have deleted ours.
        name = self._lock.last().get("name")
        newest = file_named(self.directory / name) if isinstance(name, str) else None
        stored = file_named(self.directory / self._stored[1].name)
        if newest is None or stored is None or newest.microseconds <= stored.microseconds:
            return False
        return newest.path.exists()

    def prune(self, keep: Mapping[str, Any]) -> List[SavedBackup]:
        pruned = []
        with self._lock.held():
            files = scan(self.directory)
            self._moments = {file.name: self._moments[file.name] for file in files if file.name in self._moments}
            gone = superfluous(files, keep, self._moment)
            if gone:
                self._note_pruned_before(files, gone)
            # From the newest to the oldest: whenever this ends, no delta stands without what it follows.
            for file in reversed(gone):
                saved = file.saved()
                file.path.unlink()
                pruned.append(saved)
        return pruned[::-1]

    def list(self) -> "List[SavedBackup]":
        saved: List[SavedBackup] = []
        for _ in range(_ATTEMPTS):
            note = self._lock.last()
            for file in scan(self.directory):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    saved.append(file.saved())
            if saved or note == self._lock.last():
                break
        return saved

    def verify(self) -> "List[CheckedBackup]":
        for _ in range(_ATTEMPTS):
            note = self._lock.last()
            files = scan(self.directory)
            found = check_files(self.directory, files)
            known, there = {file.name for file in files}, {file.name for file in scan(self.directory)}
            checked: List[CheckedBackup] = []
            for one in found:
                # Neither what was deleted meanwhile is broken, nor missed what stood before everything that is left.
                if one.backup.name in there or (one.backup.name not in known and (checked or not there)):
                    checked.append(one)
            # A scan may see neither the file that goes nor the one that came in its place.
            if (checked and checked[-1].backup.name in known) or note == self._lock.last():
                return checked
        raise PrunedError(f"backups in {self.directory} were deleted while they were read", hint="try again")

    def load(
        self, at: Optional[datetime.datetime], allow_pickle: bool, notice: Callable[[str], None]
    ) -> Tuple[SavedBackup, State]:
        return load_state(self.directory, at, allow_pickle, notice)

    def forget(self) -> None:
        self._chain = []
        # Who restored from the folder begins anew.
        self._has_written = False

    def after_fork(self) -> None:
        self._lock.after_fork()
        self.forget()
        self._stored = None

    def _next(self, view: View, note: Dict[str, Any]) -> int:
        """The microsecond that names the next file: its view's, but later than every file before it, whatever the clock says."""
        last = note.get("microseconds")
        if not isinstance(last, int) or not 0 <= last < LAST_SECOND * 1_000_000:
            last = max((file.microseconds for file in scan(self.directory)), default=0)
        return max(round(view.taken * 1_000_000), last + 1)

    def _write(
        self, view: View, pattern: str, form: str, microseconds: int, follows: Optional[Dict[str, Any]]
    ) -> SavedBackup:
        target = self.directory / pattern.format(f"{microseconds // 1_000_000}_{microseconds % 1_000_000:06}")
        while target.exists():
            microseconds += 1
            target = self.directory / pattern.format(f"{microseconds // 1_000_000}_{microseconds % 1_000_000:06}")
        time = time_of(microseconds)
        taken = round(view.taken * 1_000_000)
        if microseconds - taken > _AHEAD_MICROSECONDS:
            time = time_of(taken)
            if microseconds - taken > _WRONG_MICROSECONDS:
                _log.warning(
                    "The clock says %s, but a backup in %s is from %s: one of them is wrong.",
                    format_time(time),
                    self.directory,
                    format_time(time_of(microseconds)),
                )
        line = self._line(view, format_time(time), follows)
        with staged(self.directory, self._durable) as out:
            if form == "pickle":
                write_pickle(out, view)
            elif view.is_full:
                write_json(out, view)
            else:
                self._write_delta(out, view)
            write_line(out, line)
            # Whoever finds this note starts with a full, should we not come to the next one.
            self._lock.note({"microseconds": microseconds})
            try:
                out.publish(target)
                self._take_over()
                link = _Link(target.name, out.digest(), out.size, format_time(time))
                last = {"name": link.name, "sha256": link.sha256, "time": link.time}
                self._lock.note({"microseconds": microseconds, **last})
            except BaseException:
                # Nobody can say any more what the folder's last backup is.
                self._chain = []
                raise
        self._chain.append(link)
        self._stored = (self._chain[0], link)
        kind = "full" if view.is_full else "delta"
        full = self._chain[0].name
        return SavedBackup(link.name, kind, time, link.size, form, "copal", full)

    def _write_delta(self, out: Any, view: View) -> None:
        try:
            write_delta(out, view, exact=self.file_format == "pickle")
        except TypeError as error:
            if self.file_format == "pickle":
                raise NeedsFull(f"deltas are JSON, and {error}") from error
            raise

    def _line(self, view: View, time: str, follows: Optional[Dict[str, Any]]) -> Dict[str, Any]:
        line: Dict[str, Any] = {
            "format": 1,
            "kind": "full" if view.is_full else "delta",
            "chain": self._chain_id,
            "number": len(self._chain),
            "time": time,
        }
        if follows is not None:
            line["follows"] = follows
        if not view.is_full:
            line["full"] = self._chain[0].name
            line["dropped"] = view.dropped
        tables = line["tables"] = {}
        for table in view.tables:
            about: Dict[str, Any] = {"rows": len(table.rows), "next_key": table.next_key, "indexes": table.indexes}
            if not view.is_full:
                about["created"] = table.created
                about["primary_key"] = table.primary_key
                about["schema"] = None if table.schema is None else schema_names(table.schema)
            tables[table.name] = about
        return line

    def _refuse_another_database(self) -> None:
        """Who was saved last has the folder: a program may have loaded its database anew. Who had it before is told."""
        if self._has_written and self._is_of_another_database():
            raise UsageError(
                f"another database of this program is saved to {self.directory} meanwhile",
                hint="give each database a folder of its own; what is in this one can be loaded with at=",
            )

    def _take_over(self) -> None:
        """A backup is there, so the folder is its database's."""
        if self._database is None:
            return
        if self._is_of_another_database():
            _log.warning("%s is taken over: another database of this program was saved to it before.", self.directory)
        _WRITERS[os.path.realpath(self.directory)] = self
        self._has_written = True

    def _is_of_another_database(self) -> bool:
        last = None if self._database is None else _WRITERS.get(os.path.realpath(self.directory))
        return last is not None and last._database is not self._database

    def _moment(self, file: BackupFile) -> datetime.datetime:
        if file.name not in self._moments:
            self._moments[file.name] = file.moment()
        return self._moments[file.name]

    def _note_pruned_before(self, files: List[BackupFile], gone: List[BackupFile]) -> None:
        """Notes the fulls right before which a backup goes and others stay, before any goes."""
        known, going = read_pruned(self.directory), set(gone)
        fulls = {file.name for file in files if file.kind == "full" and file not in going}
        if known is None:
            self._note_pruned(fulls)
            return
        stays = False
        now = set()
        for before, file in zip(files, files[1:]):
            stays = stays or before not in going
            if file.name in fulls and stays and before in going:
                now.add(file.name)
        if not now <= known:
            self._note_pruned(fulls & (known | now))

    def _note_pruned(self, fulls: "set[str]") -> None:
        with staged(self.directory, self._durable) as out:
            out.write(json.dumps(sorted(fulls)).encode())
            out.publish(self.directory / PRUNED_NAME)

    def _sweep(self) -> None:
        """Deletes what managers that were killed have left. The lock is held, so nobody is writing."""
        if not self._swept:
            for name in os.listdir(self.directory):
                if name.startswith(STAGING):
                    with contextlib.suppress(OSError):
                        os.unlink(self.directory / name)
            self._swept = True


class _Link:
    """A backup that this destination wrote."""

    def __init__(self, name: str, sha256: str, size: int, time: str) -> None:
        self.name, self.sha256, self.size, self.time = name, sha256, size, time

    def is_there(self, directory: Path) -> bool:
        try:
            return os.stat(directory / self.name).st_size == self.size
        except FileNotFoundError:
            return False
