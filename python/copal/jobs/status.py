"""What a scheduler tells about itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Dict, Optional, Tuple

from .._values import format_time


@dataclass(frozen=True)
class Failure:
    """A run that failed."""

    #: When, in UTC.
    time: datetime
    #: The kind of error, as in `copal.CopalError.kind`.
    kind: str
    #: What happened, for people.
    message: str


@dataclass(frozen=True)
class Event:
    """Something happened to a job."""

    #: ``started``, ``succeeded``, ``failed``, ``busy`` (somebody else works on the database), ``elsewhere`` (another
    #: process made the backup), ``missed`` (and not made up for), ``cancelled`` or ``warning`` (the prune after a
    #: backup failed).
    kind: str
    #: The name of the job.
    job: str
    #: ``backup`` or ``drill``.
    run: str
    #: When, in UTC.
    time: datetime
    #: The id of the backup that was made.
    backup: Optional[str] = None
    #: What went wrong.
    error: Optional[BaseException] = None
    #: Failures in a row, in all processes of this machine.
    consecutive_failures: int = 0


@dataclass(frozen=True)
class JobStatus:
    """How one job does. Times are in UTC."""

    name: str
    schedule: Optional[str]
    drill: Optional[str]
    #: Whether its newest backup is as young as the schedule promises.
    protected: bool
    #: Why it is not protected, and what failed last; for people.
    problems: Tuple[str, ...]
    #: ``backup`` or ``drill`` while this process does that.
    running: Optional[str]
    #: The newest backup in the repository, whoever made it, as far as this process has looked.
    last_backup: Optional[str]
    last_success: Optional[datetime]
    last_drill: Optional[datetime]
    last_failure: Optional[Failure]
    #: Failures in a row, in all processes of this machine; 0 after a success.
    consecutive_failures: int
    #: When the next backup is due; in the past while one waits or is under way.
    next_run: Optional[datetime]
    next_drill: Optional[datetime]


@dataclass(frozen=True)
class SchedulerStatus:
    """How all jobs do."""

    #: Whether runs start in this process.
    running: bool
    #: Whether every job's database is protected.
    protected: bool
    jobs: Tuple[JobStatus, ...]

    def as_dict(self) -> Dict[str, Any]:
        """The same as JSON knows it: times as RFC 3339 in UTC."""
        answer: Dict[str, Any] = _plain(asdict(self))
        return answer


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return format_time(value) if isinstance(value, datetime) else value
