"""What all answers have in common: reading times, and being pickled."""

from __future__ import annotations

import datetime
import re
from dataclasses import fields
from typing import Any, List, Mapping, Optional

Json = Mapping[str, Any]
_TIME = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))\Z")


def parse_time(text: str) -> datetime.datetime:
    """Reads RFC 3339, to the microsecond; the answer is in UTC."""
    match = _TIME.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no time")
    whole, fraction, sign, hours, minutes = match.groups()
    time = datetime.datetime.strptime(whole.upper().replace(" ", "T"), "%Y-%m-%dT%H:%M:%S")
    time = time.replace(microsecond=int((fraction or "0")[:6].ljust(6, "0")), tzinfo=datetime.timezone.utc)
    if sign is not None:
        offset = datetime.timedelta(hours=int(hours), minutes=int(minutes))
        time = time - offset if sign == "+" else time + offset
    return time


def format_time(time: datetime.datetime) -> str:
    """RFC 3339 in UTC. ``ValueError`` for a time without a zone."""
    if time.tzinfo is None:
        raise ValueError("the time has no zone")
    return time.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def maybe_time(text: Optional[str]) -> Optional[datetime.datetime]:
    return None if text is None else parse_time(text)


class Value:
    """What frozen classes with slots need to be pickled before Python 3.11."""

    __slots__ = ()

    def __getstate__(self) -> List[Any]:
        return [getattr(self, field.name) for field in fields(self)]  # type: ignore[arg-type]

    def __setstate__(self, state: List[Any]) -> None:
        for field, value in zip(fields(self), state):  # type: ignore[arg-type]
            object.__setattr__(self, field.name, value)
