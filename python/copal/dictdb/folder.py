"""The files of a backup folder: their names, the lines that Copal adds, and the lock.

DictDB's names and formats are kept: ``dictdb_backup_<seconds>_<microseconds>.json`` or ``.pickle`` and
``dictdb_delta_….json``. Copal ends each file with one more line, a JSON value that DictDB ignores::

    "copal": {"format": 1, "kind": …, "chain": …, "number": …, "follows": …, "tables": …, "sha256": …}

``sha256`` is over all bytes before it, so a file that is cut off or changed anywhere is recognised. ``follows`` names the
backup that a delta needs, or that was the folder's last before a full, by name, time and the digest of that whole file. In a
pickle the line stands behind the pickle's end. Names give the order, the line the time: they differ once a clock ran ahead.

``.copal.lock`` is locked while a backup is written and names the last one, so that managers in several processes never mix
their chains: who finds that another one was last starts with a full. ``.copal.pruned`` lists the fulls before which rules of
retention deleted backups: what is missing before any other was lost.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Set

from .._values import parse_time
from ..errors import BusyError, DamageError
from .protocol import SavedBackup

try:
    import fcntl
except ImportError:  # no such locks on this system: distinct chains alone keep managers apart
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "END",
    "LAST_SECOND",
    "MARK",
    "PRUNED_NAME",
    "BackupFile",
    "FolderLock",
    "file_named",
    "follows_of",
    "lost_before",
    "lost_newest",
    "read_line",
    "read_pruned",
    "scan",
    "time_from",
    "time_of",
]

MARK = b'\n    "copal": '
END = b'"}\n}\n'
_DIGEST_BYTES = 64
_NAME = re.compile(r"dictdb_(backup|delta)_(\d{1,15})_(\d{6})\.(json|pickle)\Z")
_FIRST_TAIL_BYTES = 1 << 16
_LOCK_NAME = ".copal.lock"
PRUNED_NAME = ".copal.pruned"
#: The start of the year 9999: files of a later time are none of ours, and some zones cannot tell such times.
LAST_SECOND = 253_370_764_800
_LOCK_SECONDS = 60.0
_NOTE_BYTES = 256
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def time_of(microseconds: int) -> datetime.datetime:
    """The time in UTC of microseconds since 1970."""
    return _EPOCH + datetime.timedelta(microseconds=microseconds)


@dataclass(frozen=True)
class BackupFile:
    """A file with a valid name."""

    path: Path
    kind: str
    microseconds: int
    format: str

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def named_time(self) -> datetime.datetime:
        """The time of its name; never before its moment."""
        return time_of(self.microseconds)

    def moment(self) -> datetime.datetime:
        """The moment whose state it holds."""
        return self._moment(read_line(self.path))

    def _moment(self, line: Optional[Dict[str, Any]]) -> datetime.datetime:
        return min(self.named_time, time_from((line or {}).get("time"), self.named_time))

    def saved(self) -> SavedBackup:
        """What a list shows of it."""
        line = read_line(self.path)
        full = self.name if self.kind == "full" else None
        if line is not None and self.kind == "delta":
            full = str(line.get("full"))
        made_by = "dictdb" if line is None else "copal"
        size = self.path.stat().st_size
        return SavedBackup(self.name, self.kind, self._moment(line), size, self.format, made_by, full)


def time_from(text: Any, default: datetime.datetime) -> datetime.datetime:
    """A time as a line has it; the default for what is none."""
    try:
        return parse_time(text) if isinstance(text, str) else default
    except (ValueError, OverflowError):
        return default


def file_named(path: Path) -> Optional[BackupFile]:
    """What a valid name says, whether or not there is a file."""
    match = _NAME.match(path.name)
    if match is None or (match[1] == "delta" and match[4] != "json") or int(match[2]) >= LAST_SECOND:
        return None
    kind = "full" if match[1] == "backup" else "delta"
    return BackupFile(path, kind, int(match[2]) * 1_000_000 + int(match[3]), match[4])


def scan(directory: Path) -> List[BackupFile]:
    """All files with a valid name, oldest first."""
    files = [file for file in (file_named(directory / name) for name in os.listdir(directory)) if file is not None]
    # Of the same microsecond, the full comes first.
    return sorted(files, key=lambda file: (file.microseconds, file.kind == "delta", file.name))


def parse_line(data: bytes) -> Optional[Dict[str, Any]]:
    """Copal's line at the end of a file (or of its last part); None if there is none."""
    if not data.endswith(END):
        return None
    mark = data.rfind(MARK)
    if mark < 0:
        return None
    try:
        line = json.loads(data[mark + len(MARK) : -3])
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not isinstance(line.get("format"), int):
        return None
    return line


def read_line(path: Path) -> Optional[Dict[str, Any]]:
    """The same from a file, reading only its end. The digest is not checked."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        length = _FIRST_TAIL_BYTES
        while True:
            file.seek(max(0, size - length))
            data = file.read(length)
            line = parse_line(data)
            if line is not None or length >= size or not data.endswith(END):
                return line
            length *= 8


def follows_of(line: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """What a line says that its file follows; empty if it says nothing."""
    follows = (line or {}).get("follows")
    return follows if isinstance(follows, dict) and isinstance(follows.get("name"), str) else {}


def lost_before(full: BackupFile, line: Optional[Dict[str, Any]]) -> Optional[SavedBackup]:
    """The backup that a full followed, if it is missing and no rule of retention deleted what was there."""
    follows = follows_of(line)
    file = file_named(full.path.parent / follows["name"]) if follows else None
    if file is None or file.path.exists():
        return None
    pruned = read_pruned(full.path.parent)
    if pruned is None or full.name in pruned:
        return None
    return _lost(file, follows)


def lost_newest(directory: Path, files: List[BackupFile]) -> Optional[SavedBackup]:
    """The backup that Copal wrote last, if it is missing and nothing of these files is newer."""
    note = FolderLock(directory).last()
    name = note.get("name")
    file = file_named(directory / name) if isinstance(name, str) else None
    if file is None or file.path.exists() or (files and files[-1].microseconds >= file.microseconds):
        return None
    return _lost(file, note)


def _lost(file: BackupFile, known: Dict[str, Any]) -> SavedBackup:
    time = min(file.named_time, time_from(known.get("time"), file.named_time))
    return SavedBackup(file.name, file.kind, time, 0, file.format, "copal")


def read_pruned(directory: Path) -> Optional[Set[str]]:
    """The fulls before which rules of retention deleted backups; None where nobody noted that."""
    try:
        names = json.loads((directory / PRUNED_NAME).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else None


def check(name: str, data: bytes) -> Optional[Dict[str, Any]]:
    """Copal's line of a whole file after its digest was checked; None for a file without one. ``DamageError`` if it is damaged."""
    line = parse_line(data)
    if line is None:
        return None
    if line["format"] != 1:
        raise DamageError(f"{name} has format {line['format']}, which this version of Copal does not know")
    covered = len(data) - len(END) - _DIGEST_BYTES
    if hashlib.sha256(memoryview(data)[:covered]).hexdigest() != line.get("sha256"):
        raise DamageError(f"{name} is damaged: its content does not match its digest")
    return line


class FolderLock:
    """Who may write to the folder, and what was written last."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file: Optional[int] = None

    @contextlib.contextmanager
    def held(self) -> Iterator[Dict[str, Any]]:
        """Waits for the lock; the value is what was noted about the last backup, empty if nothing is known."""
        file = os.open(self.directory / _LOCK_NAME, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        self._file = file
        try:
            self._wait(file)
            yield _note(os.pread(file, 1 << 16, 0))
        finally:
            self._file = None
            os.close(file)

    def note(self, last: Dict[str, Any]) -> None:
        """Notes the last backup; only while the lock is held."""
        if self._file is not None:
            # Always as long, in one write: emptying a file first is slow on some file systems.
            os.pwrite(self._file, json.dumps(last).ljust(_NOTE_BYTES).encode(), 0)

    def last(self) -> Dict[str, Any]:
        """What is noted, without waiting."""
        try:
            return _note((self.directory / _LOCK_NAME).read_bytes())
        except OSError:
            return {}

    def after_fork(self) -> None:
        """Closes the child's copy: the lock belongs to the parent alone."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                os.close(file)

    def _wait(self, file: int) -> None:
        if fcntl is None:
            return
        give_up = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EINTR):
                    return  # a file system without locks
                if time.monotonic() >= give_up:
                    raise BusyError(f"another process has been writing to {self.directory} for a minute") from None
            time.sleep(0.01)


def _note(text: bytes) -> Dict[str, Any]:
    try:
        note = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) else {}
