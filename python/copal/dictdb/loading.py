"""The state of a folder at a moment: the newest full that is not later, then every delta after it, in order.

What Copal wrote is followed by digests: a delta that is missing, damaged or of another chain is an error. What DictDB's own
manager wrote records neither order nor tables nor indexes; it is restored as far as it goes, and every gap is told.
"""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from ..errors import CopalError, DamageError, NotFoundError, PrunedError, UsageError
from .folder import (
    BackupFile,
    FolderLock,
    file_named,
    follows_of,
    lost_before,
    lost_newest,
    read_line,
    scan,
    time_from,
)
from .protocol import SavedBackup, State
from .reading import DICTDB_LACKS, apply_delta, read_delta, read_full

__all__ = ["load_state"]

_Notice = Callable[[str], None]
#: How often a folder is read again whose files are deleted meanwhile.
_ATTEMPTS = 50


def load_state(
    directory: Path, at: Optional[datetime.datetime], allow_pickle: bool, notice: _Notice
) -> Tuple[SavedBackup, State]:
    """The state and the last backup of which it is made. ``PrunedError`` if files go faster than they can be read."""
    if at is not None and at.tzinfo is None:
        raise UsageError("the time to restore has no zone", hint="datetime(…, tzinfo=timezone.utc), or .astimezone()")
    lock = FolderLock(directory)
    for _ in range(_ATTEMPTS):
        note = lock.last()
        files = scan(directory)
        notices: List[str] = []
        try:
            answer = _load(directory, files, at, allow_pickle, notices.append)
        except (DamageError, NotFoundError, OSError):
            # A manager may be writing and pruning: what has gone is damage only if nothing has changed.
            # A scan may see neither the file that goes nor the one that came in its place; the note tells of both.
            if scan(directory) == files and lock.last() == note:
                raise
            continue
        for sentence in notices:
            notice(sentence)
        return answer
    raise PrunedError(f"backups in {directory} were deleted while they were read", hint="try again")


def _load(
    directory: Path, files: List[BackupFile], at: Optional[datetime.datetime], allow_pickle: bool, notice: _Notice
) -> Tuple[SavedBackup, State]:
    _refuse_lost_newest(directory, files, at)
    if at is not None:
        files = _until_time(directory, files, at)
    if not files:
        raise NotFoundError(f"there is no backup in {directory}")
    fulls = [position for position, file in enumerate(files) if file.kind == "full"]
    if not fulls:
        return _deltas_alone(files, notice)
    newest = fulls[-1]
    before = files[newest - 1] if len(fulls) > 1 else None
    full = files[newest]
    try:
        data = full.path.read_bytes()
        state, line = read_full(full.name, full.format, data, allow_pickle)
    except (DamageError, OSError) as error:
        raise _unreadable(full, before, error) from error
    if line is None:
        notice(f"{full.name} was written by DictDB's own manager: {DICTDB_LACKS}")
    deltas = files[newest + 1 :]
    if line is None:
        _apply_foreign(state, deltas, notice)
    else:
        _apply_chain(state, full, hashlib.sha256(data).hexdigest(), deltas)
    return files[-1].saved(), state


def _until_time(directory: Path, files: List[BackupFile], at: datetime.datetime) -> List[BackupFile]:
    """The files up to the last one that is not later. Refused if the one after it shows that another is missing."""
    count = len(files)
    # The moment of a file is never after the time of its name, so that only the files after it are looked into.
    while count > 0 and files[count - 1].named_time > at and files[count - 1].moment() > at:
        count -= 1
    if count == 0 and files:
        raise NotFoundError(f"there is no backup that early in {directory}", hint=f"the oldest is of {files[0].moment()}")
    if 0 < count < len(files):
        _refuse_lost_between(files[count - 1], files[count], at)
    return files[:count]


def _refuse_lost_between(last: BackupFile, later: BackupFile, at: datetime.datetime) -> None:
    line = read_line(later.path)
    follows = follows_of(line)
    file = file_named(later.path.parent / follows["name"]) if follows else None
    if line is None or file is None or file.path.exists():
        return
    if later.kind == "full" and lost_before(later, line) is None:
        return
    if time_from(follows.get("time"), file.named_time) <= at or (
        later.kind == "delta" and last.moment() < at and _are_several_missing(read_line(last.path), line)
    ):
        raise DamageError(f"{later.name} follows {file.name}, which is missing", hint=_until(last))


def _are_several_missing(last: Optional[Dict[str, Any]], later: Dict[str, Any]) -> bool:
    before, after = (last or {}).get("number"), later.get("number")
    return not (isinstance(before, int) and isinstance(after, int) and after - before <= 2)


def _apply_chain(state: State, full: BackupFile, digest: str, deltas: List[BackupFile]) -> None:
    before, expected = full, digest
    for number, file in enumerate(deltas, start=1):
        try:
            data = file.path.read_bytes()
            document, line = read_delta(file.name, data)
            if line is None:
                raise DamageError(f"{file.name} was not written by the manager that wrote {full.name}")
            _refuse_gap(file, line, before, expected, number)
            apply_delta(file.name, state, document, line)
        except (DamageError, OSError) as error:
            if isinstance(error, DamageError) and error.hint is None:
                error.hint = _until(before)
            raise
        before, expected = file, hashlib.sha256(data).hexdigest()


def _refuse_gap(file: BackupFile, line: Dict[str, Any], before: BackupFile, expected: str, number: int) -> None:
    follows = follows_of(line)
    if follows.get("sha256") == expected and line.get("number") == number:
        return
    name = follows.get("name")
    if isinstance(name, str) and not (file.path.parent / name).exists():
        raise DamageError(f"{file.name} follows {name}, which is missing")
    raise DamageError(f"{file.name} follows {name}, not {before.name}: it belongs to another chain")


def _apply_foreign(state: State, deltas: List[BackupFile], notice: _Notice) -> None:
    for position, file in enumerate(deltas):
        try:
            document, line = read_delta(file.name, file.path.read_bytes())
            if line is not None:
                name = follows_of(line).get("name")
                raise DamageError(f"{file.name} follows {name}, which is missing or of another chain")
            doubts = apply_delta(file.name, state, document, None)
        except DamageError as error:
            if position > 0 and error.hint is None:
                error.hint = _until(deltas[position - 1])
            raise
        for sentence in doubts:
            notice(f"{file.name}: {sentence}")


def _deltas_alone(files: List[BackupFile], notice: _Notice) -> Tuple[SavedBackup, State]:
    """DictDB's manager begins with deltas. Those of Copal always follow a full."""
    notice(
        f"there is no full backup under {files[0].name}: rows that did not change after the program had started are "
        f"not in the files. They were written by DictDB's own manager: {DICTDB_LACKS}"
    )
    state: State = {}
    _apply_foreign(state, files, notice)
    return files[-1].saved(), state


def _refuse_lost_newest(directory: Path, files: List[BackupFile], at: Optional[datetime.datetime]) -> None:
    lost = lost_newest(directory, files)
    if lost is not None and (at is None or at >= lost.time):
        hint = _until(files[-1]) if files else None
        raise DamageError(f"the newest backup {lost.name} is missing", hint=hint)


def _unreadable(full: BackupFile, before: Optional[BackupFile], error: Exception) -> CopalError:
    cause = error.message if isinstance(error, DamageError) else str(error)
    if before is None:
        return DamageError(f"the only full backup {full.name} cannot be read", causes=[cause])
    return DamageError(
        f"the newest full backup {full.name} cannot be read",
        causes=[cause],
        hint=f"the state before it ends with {before.name}; ask for it with at={_spelled(before.moment())}",
    )


def _until(file: BackupFile) -> str:
    return f"all before it can be had with at={_spelled(file.moment())}"


def _spelled(time: datetime.datetime) -> str:
    return f"datetime.fromisoformat({time.isoformat()!r})"
