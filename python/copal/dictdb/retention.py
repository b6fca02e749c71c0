"""Which files of a folder stay. The rules are those of Copal's repositories: a backup stays if any rule wants it."""

from __future__ import annotations

import datetime
import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Set

from ..errors import UsageError
from .folder import BackupFile

__all__ = ["check_rules", "superfluous"]

_PERIODS: "Dict[str, Callable[[datetime.datetime], Any]]" = {
    "hourly": lambda time: (time.date(), time.hour, time.utcoffset()),
    "daily": lambda time: time.date(),
    "weekly": lambda time: time.isocalendar()[:2],
    "monthly": lambda time: (time.year, time.month),
    "yearly": lambda time: time.year,
}
#: A longer time between two backups may be a clock that leapt.
_LEAP = datetime.timedelta(days=31)
_NONE = datetime.timedelta()
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def check_rules(keep: Any) -> Mapping[str, Any]:
    """The rules as a mapping of those that are set. ``UsageError`` for what is no rule."""
    if not isinstance(keep, Mapping):
        names = ("last", "within", *_PERIODS)
        if not all(hasattr(keep, name) for name in names):
            raise UsageError("keep must be a mapping such as {'last': 10, 'within': '5d'}")
        keep = {name: getattr(keep, name) for name in names}
    for name, value in keep.items():
        if name == "within":
            _duration(value)
        elif name != "last" and name not in _PERIODS:
            raise UsageError(f"keep has no rule {name!r}", hint="last, within, hourly, daily, weekly, monthly, yearly")
        elif value is not None and (not isinstance(value, int) or value < 0):
            raise UsageError(f"keep's rule {name!r} must be a number of backups, not {value!r}")
    return {name: value for name, value in keep.items() if value}


def superfluous(
    files: List[BackupFile],
    keep: Mapping[str, Any],
    moment: Callable[[BackupFile], datetime.datetime] = BackupFile.moment,
) -> List[BackupFile]:
    """The files that no rule wants and no wanted one needs, oldest first; none without any rule.

    A delta needs everything before it up to the nearest full, so a full only goes with all its deltas. Deltas without a full
    under them are left alone.
    """
    rules = check_rules(keep)
    if not files or not any(_duration(v) if name == "within" else v for name, v in rules.items()):
        return []
    # Only rules of time need the times, which the files have to be read for.
    times = [moment(file) for file in files] if set(rules) - {"last"} else [file.named_time for file in files]
    wanted = _wanted(times, rules)
    needed: Set[int] = set()
    for position in wanted:
        while position >= 0:
            needed.add(position)
            if files[position].kind == "full":
                break
            position -= 1
    first_full = next((position for position, file in enumerate(files) if file.kind == "full"), len(files))
    return [file for position, file in enumerate(files) if position not in needed and position >= first_full]


def _wanted(times: List[datetime.datetime], rules: Mapping[str, Any]) -> Set[int]:
    """The positions of what the rules want.

    Of the times of more than 31 days without a backup the latest does not count for ``within``, nor does any time that went
    backwards: a clock that leapt makes nothing older.
    """
    newest = len(times) - 1
    wanted = {newest}
    within = _duration(rules.get("within"))
    left = {name: int(rules.get(name) or 0) for name in _PERIODS}
    seen: Dict[str, Set[Any]] = {name: set() for name in _PERIODS}
    age, leapt = _NONE, False
    for position in range(newest, -1, -1):
        time = times[position]
        since = times[position + 1] - time if position < newest else _NONE
        if since > _LEAP and not leapt:
            leapt = True
        else:
            age += max(since, _NONE)
        if newest - position < int(rules.get("last") or 0):
            wanted.add(position)
        if within is not None and age <= within:
            wanted.add(position)
        for name, period_of in _PERIODS.items():
            period = period_of(time.astimezone())
            if left[name] and period not in seen[name]:
                seen[name].add(period)
                left[name] -= 1
                wanted.add(position)
    return wanted


def _duration(value: Any) -> Optional[datetime.timedelta]:
    if value is None or value == 0:
        return None
    if isinstance(value, datetime.timedelta):
        return value if value > datetime.timedelta() else None
    match = re.match(r"(\d+)\s*([smhdw])\Z", value) if isinstance(value, str) else None
    if match is None:
        raise UsageError(f"keep's rule 'within' must be a duration such as '36h' or '5d', not {value!r}")
    seconds = int(match[1]) * _UNITS[match[2]]
    return datetime.timedelta(seconds=seconds) if seconds else None
