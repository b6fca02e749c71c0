"""Keys that Python takes for the same, brought to one value: ``1``, ``True`` and ``1.0``; one moment in two time zones.

The native part calls it for keys other than text, integers, bytes, dates, spans of time and UUIDs.
"""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

__all__ = ["plainest"]

_DAY = datetime.timedelta(days=1)
_ZERO = datetime.timedelta()
#: The widest offsets that time zones may have.
_WIDEST = datetime.timedelta(hours=23, minutes=59)
#: Decimals with more digits in front of the point are no keys: as integers they would take too much memory.
_MOST_DIGITS = 1000


def plainest(key: Any) -> Any:
    """The plainest value that is equal to the key. ``TypeError`` if a row cannot be found again by such a key."""
    known = type(key)
    if known is bool:
        return int(key)
    if known is float:
        return _number(key)
    if known is complex:
        return _number(key.real) if key.imag == 0 else _complex(key)
    if known is Decimal:
        return _decimal(key)
    if known is datetime.datetime:
        return _datetime(key)
    if known is datetime.time:
        return _time(key)
    if known is tuple:
        return tuple(map(plainest, key))
    if known is frozenset:
        return frozenset(map(plainest, key))
    return key


def _number(key: float) -> Any:
    if key != key:
        raise TypeError("a row cannot be found again by the key NaN")
    return int(key) if key.is_integer() else key


def _complex(key: complex) -> complex:
    if key != key:
        raise TypeError("a row cannot be found again by the key NaN")
    # Zeros lose their sign.
    return complex(key.real + 0.0, key.imag)


def _decimal(key: Decimal) -> Any:
    if key.is_nan():
        raise TypeError("a row cannot be found again by the key NaN")
    if key.is_infinite():
        return float(key)
    if key.adjusted() > _MOST_DIGITS:
        raise TypeError("a decimal number of so many digits cannot be a key")
    if key == key.to_integral_value():
        return int(key)
    number = float(key)
    if key == number:
        return number
    sign, digits, exponent = key.as_tuple()
    last = max(position for position, digit in enumerate(digits) if digit) + 1
    return Decimal((sign, digits[:last], int(exponent) + len(digits) - last))


def _datetime(key: datetime.datetime) -> datetime.datetime:
    earlier = key.replace(fold=0)
    offset = earlier.utcoffset()
    if offset is None or offset != key.replace(fold=1).utcoffset():
        # Without a zone it is equal to such only; in an hour that comes twice or never, to those of its own zone only.
        return earlier if offset is not None else earlier.replace(tzinfo=None)
    try:
        return earlier.astimezone(datetime.timezone.utc)
    except OverflowError:
        raise TypeError("a moment outside of the years 1 to 9999 in UTC cannot be a key") from None


def _time(key: datetime.time) -> datetime.time:
    offset = key.utcoffset()
    if offset is None:
        return key.replace(tzinfo=None, fold=0)
    moment = datetime.timedelta(
        hours=key.hour, minutes=key.minute, seconds=key.second, microseconds=key.microsecond
    )
    utc = moment - offset
    # Times before and after the day in UTC are those of the widest zones.
    zone = _WIDEST if utc < _ZERO else -_WIDEST if utc >= _DAY else _ZERO
    shown = (datetime.datetime(2000, 1, 1) + utc + zone).time()
    return shown.replace(tzinfo=datetime.timezone(zone) if zone else datetime.timezone.utc)
