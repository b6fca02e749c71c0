"""Whose turn it is, and how it went: what the processes of one service on one machine tell each other.

A lock file for each database keeps two of them from making the same backup, and a small JSON file beside it says what
failed and when it is tried again. Neither is the truth about backups, which stands in the repository: lost, they cost a
retry.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional


@dataclass(frozen=True)
class Record:
    """How the newest runs of a database went, in whatever process. Times are RFC 3339, in UTC."""

    #: What the newest failed run was due for, and when it ended.
    failed_due: Optional[str] = None
    failed_at: Optional[str] = None
    kind: Optional[str] = None
    message: Optional[str] = None
    #: The number of the attempt that failed, and when the next one is.
    attempt: int = 0
    retry_at: Optional[str] = None
    #: Failures in a row.
    failures: int = 0
    #: The newest good run, and since when there have been any to do; of drills only, since the repository knows the
    #: backups.
    done_at: Optional[str] = None
    since: Optional[str] = None


class Turn:
    """The right to work on one database, and the record that goes with it. Not for several threads."""

    def __init__(self, repository: str, database: str, run: str) -> None:
        key = "\0".join((repository, database, run)).encode(errors="surrogatepass")
        self._name = hashlib.blake2b(key, digest_size=12).hexdigest()
        self._folder: Optional[Path] = None
        self._file: Optional[int] = None

    def take(self) -> bool:
        """Takes the turn; ``False`` if somebody else has it."""
        file = os.open(self._path("lock"), os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            taken = _lock(file)
        except BaseException:
            os.close(file)
            raise
        if taken:
            self._file = file
        else:
            os.close(file)
        return taken

    def give_back(self) -> None:
        """Ends the turn."""
        file, self._file = self._file, None
        if file is not None:
            # Closing alone would not do if a fork has the same descriptor.
            _unlock(file)
            os.close(file)

    def forget(self) -> None:
        """In a fork: leaves the turn to the parent."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def read(self) -> Record:
        """What is written; nothing if it cannot be read."""
        try:
            content = json.loads(self._path("json").read_text(encoding="utf-8"))
            return Record(**{key: value for key, value in content.items() if key in Record.__dataclass_fields__})
        except (OSError, ValueError, AttributeError, TypeError):
            return Record()

    def write(self, record: Record) -> None:
        """Writes the record, for whoever has the turn. Where that is impossible others retry a little more."""
        path = self._path("json")
        new = path.with_suffix(f".{os.getpid()}.new")
        try:
            new.write_text(json.dumps(asdict(record)), encoding="utf-8")
            os.replace(new, path)
        except OSError:
            new.unlink(missing_ok=True)

    def _path(self, suffix: str) -> Path:
        if self._folder is None:
            self._folder = _folder()
        return self._folder / f"{self._name}.{suffix}"


def _folder() -> Path:
    """Where the files lie: in Copal's state folder, else (no home, a read-only one) where temporary files go."""
    places = []
    state = os.environ.get("XDG_STATE_HOME")
    if state and os.path.isabs(state):
        places.append(Path(state))
    elif os.path.isabs(os.path.expanduser("~")):
        places.append(Path(os.path.expanduser("~")) / ".local" / "state")
    user = os.getuid() if hasattr(os, "getuid") else 0
    for place in [*(place / "copal" / "jobs" for place in places), Path(tempfile.gettempdir()) / f"copal-jobs-{user}"]:
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        # A folder that somebody else has put there is theirs.
        ours = not hasattr(os, "getuid") or place.stat().st_uid == user
        if ours and os.access(place, os.W_OK | os.X_OK):
            return place
    raise OSError("there is no folder for lock files: neither a home nor one for temporary files can be written to")


def _lock(file: int) -> bool:
    try:
        import fcntl
    except ImportError:
        return _windows(file, "LK_NBLCK")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(file: int) -> None:
    try:
        import fcntl
    except ImportError:
        _windows(file, "LK_UNLCK")
        return
    fcntl.flock(file, fcntl.LOCK_UN)


def _windows(file: int, how: str) -> bool:
    import importlib

    msvcrt: Any = importlib.import_module("msvcrt")
    try:
        msvcrt.locking(file, getattr(msvcrt, how), 1)
    except OSError:
        return False
    return True
