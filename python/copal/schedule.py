"""Schedules and policies of a ``copal.toml``, for those who run them inside their own program."""

from __future__ import annotations

import datetime
import json
import os
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

from . import _copal
from ._values import format_time, parse_time
from .errors import UsageError, from_json
from .results import Keep

__all__ = ["Configuration", "ConfiguredDatabase", "configuration", "next_run"]


@dataclass(frozen=True)
class ConfiguredDatabase:
    """One table ``[databases.NAME]``, with the defaults of what it does not say."""

    name: str
    #: Where it is, without any password: call the database by its name.
    source: str
    #: Cron, ``@daily`` or ``every 5m``.
    schedule: Optional[str]
    #: When its newest backup is restored to a scratch place and checked.
    drill: Optional[str]
    #: Its time zone, else the configuration's; ``None``: the system's.
    timezone: Optional[str]
    #: ``None``: all backups stay.
    keep: Optional[Keep]
    #: What its newest backup should not be older than.
    max_age: Optional[datetime.timedelta]
    #: Its regular runs may start so much later.
    jitter: datetime.timedelta
    #: A backup after a change starts no earlier than this after the one before it.
    min_interval: datetime.timedelta
    #: A run that takes longer is ended.
    time_limit: datetime.timedelta
    #: A run that failed for a passing reason is repeated so many times.
    retries: int
    #: Runs missed while the program was not running are made up for, together by one.
    catch_up: bool
    #: A change of its file calls for a backup.
    on_change: bool
    #: A spare copy of its newest snapshot stands ready.
    spare: bool
    #: The notifiers that are told about it.
    notify: Tuple[str, ...]


@dataclass(frozen=True)
class Configuration:
    """A ``copal.toml``, as far as programs need it."""

    #: Its absolute path; ``None``: there is none.
    path: Optional[str]
    timezone: Optional[str]
    databases: Mapping[str, ConfiguredDatabase]


def configuration(path: "str | os.PathLike[str] | None" = None) -> Configuration:
    """Reads the ``copal.toml`` at ``path``, else the one that the command would find.

    Raises :class:`copal.ConfigurationError`, which names line and column.
    """
    try:
        text = _copal.config(None if path is None else os.fspath(path))
    except _copal.Failure as failure:
        raise from_json(failure.args[0]) from None
    data: Dict[str, Any] = json.loads(text)
    databases = {name: _database(name, one, data["timezone"]) for name, one in data["databases"].items()}
    return Configuration(path=data["path"], timezone=data["timezone"], databases=databases)


def _database(name: str, data: Mapping[str, Any], timezone: Optional[str]) -> ConfiguredDatabase:
    def span(key: str) -> datetime.timedelta:
        return datetime.timedelta(seconds=data[key])

    return ConfiguredDatabase(
        name=name,
        source=data["source"],
        schedule=data["schedule"],
        drill=data["drill"],
        timezone=data["timezone"] or timezone,
        keep=None if data["keep"] is None else _keep(data["keep"]),
        max_age=None if data["max_age_seconds"] is None else span("max_age_seconds"),
        jitter=span("jitter_seconds"),
        min_interval=span("min_interval_seconds"),
        time_limit=span("time_limit_seconds"),
        retries=data["retries"],
        catch_up=data["catch_up"],
        on_change=data["on_change"],
        spare=data["spare"],
        notify=tuple(data["notify"]),
    )


def _keep(data: Mapping[str, Any]) -> Keep:
    rules = dict(data)
    seconds = rules.pop("within_seconds")
    within = None if seconds is None else datetime.timedelta(seconds=seconds)
    return Keep(within=within, **rules)


def next_run(
    schedule: str, after: Optional[datetime.datetime] = None, timezone: Optional[str] = None
) -> Optional[datetime.datetime]:
    """The first time of a schedule that is later than ``after`` (now), in UTC; ``None`` if there is none.

    :param schedule: cron with five fields, ``@daily``, ``@weekly`` …, or ``every 5m``.
    :param timezone: a name such as ``"Europe/Berlin"`` in which cron's times are meant; ``None``: the system's.

    Raises :class:`copal.UsageError` for what is no schedule, and for a time without a zone.
    """
    after = datetime.datetime.now(datetime.timezone.utc) if after is None else after
    if after.tzinfo is None:
        raise UsageError("a time without a zone could mean any", hint="datetime(…, tzinfo=timezone.utc)")
    try:
        found = _copal.next_run(schedule, format_time(after), timezone)
    except _copal.Failure as failure:
        raise from_json(failure.args[0]) from None
    return None if found is None else parse_time(found)
