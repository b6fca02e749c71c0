"""What a scheduler is to do: one :class:`Job` for each database."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Mapping, Optional, Sequence, Union
from urllib.parse import unquote, urlsplit

from ..errors import ConfigurationError, UsageError
from .timing import Timetable

if TYPE_CHECKING:
    from ..results import Keep
    from ..schedule import Configuration


@dataclass(frozen=True)
class Job:
    """One database and when it is backed up.

    ``schedule`` and ``drill`` are cron with five fields, ``@hourly``, ``@daily``, ``@weekly``, ``@monthly``,
    ``@yearly`` or ``every 15m``; either may be ``None``, but not both. Cron is local time: that of ``timezone``
    (``"Europe/Berlin"``), else the system's. A drill restores the newest backup to a scratch place and checks it there.
    """

    #: A path, a URL, the name of a configured database, an SQLAlchemy engine, a connection: what `copal.backup` takes.
    source: Any = field(repr=False)
    #: When it is backed up.
    schedule: Optional[str]
    #: Which backups stay, for the prune after each backup: ``{"last": 10, "within": "5d", "daily": 7}``. Without it:
    #: all.
    keep: "Union[Keep, Mapping[str, Any], None]" = None
    #: When its newest backup is restored to a scratch place and checked.
    drill: Optional[str] = None
    #: The zone of both schedules.
    timezone: Optional[str] = None
    #: What the database is called here and in the repository. Without it: here by its file or database name.
    name: Optional[str] = None
    #: A label for its backups.
    label: Optional[str] = None
    #: Whether what was missed is made up for, together by one run.
    catch_up: bool = True
    #: How often a run that failed for a passing reason is repeated before the next one is due.
    retries: int = 10

    def __post_init__(self) -> None:
        if self.schedule is None and self.drill is None:
            raise UsageError(f"the job {self.title} has neither a schedule nor a drill")
        if self.retries < 0:
            raise UsageError(f"the job {self.title}: retries is {self.retries}, which is less than none")
        # Says what is wrong with a schedule now and not at night.
        for schedule in (self.schedule, self.drill):
            if schedule is not None:
                Timetable(schedule, self.timezone)
        if self.keep is not None:
            _check_keep(self.keep, self.title)

    @property
    def title(self) -> str:
        """What the job is called: its name, else that of the file or the database."""
        return self.name or short_name(self.source)


def jobs_of(configuration: "Configuration") -> List[Job]:
    """The jobs of a ``copal.toml``: its databases with a schedule or a drill."""
    jobs = [
        Job(
            name,
            database.schedule,
            keep=database.keep,
            drill=database.drill,
            timezone=database.timezone,
            name=name,
            catch_up=database.catch_up,
            retries=database.retries,
        )
        for name, database in sorted(configuration.databases.items())
        if database.schedule is not None or database.drill is not None
    ]
    if not jobs:
        if configuration.path is None:
            raise ConfigurationError("there is no copal.toml", hint="name one: config=…, or give jobs")
        hint = 'add a line like schedule = "0 3 * * *" to a database'
        raise ConfigurationError(f"no database in {configuration.path} has a schedule", hint=hint)
    return jobs


def check_names(jobs: Sequence[Job]) -> None:
    """Two jobs must not have one name: nobody could tell them apart."""
    seen = set()
    for job in jobs:
        if job.title in seen:
            raise UsageError(f"two jobs are called {job.title!r}", hint="give them different name=")
        seen.add(job.title)


def _check_keep(keep: "Union[Keep, Mapping[str, Any]]", title: str) -> None:
    from ..results import Keep

    known = tuple(Keep.__dataclass_fields__)
    rules = dict(keep) if not isinstance(keep, Keep) else {name: getattr(keep, name) for name in known}
    for name, rule in rules.items():
        if name not in known:
            raise UsageError(f"the job {title}: keep has no rule {name!r}", hint=f"there are: {', '.join(known)}")
        if rule is None:
            continue
        if name == "within":
            _check_within(rule, title)
        elif not isinstance(rule, int) or rule < 1:
            raise UsageError(f"the job {title}: keep {name} is {rule!r}, and a number from 1 is needed")


def _check_within(within: Any, title: str) -> None:
    if isinstance(within, timedelta) and within > timedelta(0):
        return
    try:
        # Spelt as in schedules.
        Timetable(f"every {within}", None)
    except UsageError as error:
        hint = 'write "90s", "36h", "5d", "2w" or "1d12h"'
        raise UsageError(f"the job {title}: keep within is {within!r}", causes=(error.message,), hint=hint) from None


def short_name(source: Any) -> str:
    """What a source may be called wherever it is told: its file or database name, without its place and its password."""
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        text = text.decode(errors="replace") if isinstance(text, bytes) else text
        return _stem(text)
    url = getattr(source, "url", None)
    if url is not None:
        return _stem(str(getattr(url, "database", None) or url))
    return type(source).__name__.lower()


def _stem(text: str) -> str:
    scheme, colon, rest = text.partition(":")
    if colon and len(scheme) > 1 and scheme.replace("+", "").replace("-", "").isalnum():
        parts = urlsplit(text)
        path = unquote(parts.path).rstrip("/") or parts.netloc.rpartition("@")[2] or rest
        return Path(path).stem or "database"
    return Path(text).stem or "database"
