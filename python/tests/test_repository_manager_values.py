"""Every kind of value and key comes back from a repository as exactly what it was; what cannot is refused by name."""

from __future__ import annotations

import collections
import datetime
import enum
import fractions
import math
import random
import struct
import sys
import uuid
from decimal import Decimal
from typing import Any, Dict, List

import pytest

UTC = datetime.timezone.utc
EAST = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
ODD = datetime.timezone(-datetime.timedelta(hours=1, minutes=2, seconds=3, microseconds=4))

VALUES: List[Any] = [
    None,
    True,
    False,
    *(sign * (1 << bits) + off for bits in (0, 5, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 2000) for sign in (1, -1) for off in (-1, 0, 1)),
    0.0,
    -0.0,
    1.0,
    -1.5,
    5e-324,
    1.7976931348623157e308,
    math.inf,
    -math.inf,
    math.nan,
    struct.unpack("<d", b"\x01\x00\x00\x00\x00\x00\xf8\xff")[0],
    complex(1, -0.0),
    complex(math.nan, math.inf),
    "",
    "plain",
    "zwölf \U0001f600 \x00 \n",
    "x" * 70_000,
    "\ud800 alone",
    b"",
    b"\x00\xff" * 200,
    bytearray(b"changeable"),
    [],
    [1, [2.0, [True, [None]]]],
    (),
    (1, ("a", (b"b",))),
    {},
    {"a": 1, 2: "b", None: 3, (1, True): [4], 2.5: {"deep": {"er": set()}}},
    set(),
    {1, "a", b"a", 2.5, (3,), None},
    frozenset({frozenset(), frozenset({1})}),
    Decimal("1.10"),
    Decimal("-0"),
    Decimal("1E+50"),
    Decimal("NaN"),
    Decimal("sNaN12"),
    Decimal("-Infinity"),
    datetime.date(1, 1, 1),
    datetime.date(9999, 12, 31),
    datetime.datetime(2026, 10, 25, 2, 30, 0, 7),
    datetime.datetime(2026, 10, 25, 2, 30, fold=1),
    datetime.datetime(2026, 1, 1, tzinfo=UTC),
    datetime.datetime(2026, 1, 1, 12, 0, 1, tzinfo=EAST),
    datetime.datetime(2026, 1, 1, tzinfo=ODD),
    datetime.datetime.max,
    datetime.time(23, 59, 59, 999_999),
    datetime.time(1, 2, fold=1),
    datetime.time(1, 2, tzinfo=EAST),
    datetime.timedelta(),
    datetime.timedelta(-999_999_999),
    datetime.timedelta(days=3, seconds=5, microseconds=7),
    uuid.UUID(int=0),
    uuid.UUID("12345678-1234-5678-1234-567812345678"),
]

KEYS: List[Any] = [
    None,
    0,
    -(1 << 70),
    (1 << 64) - 1,
    2.5,
    4.0,
    math.inf,
    True,
    "text",
    "\udfff",
    b"bytes",
    (1, "a"),
    (2.0, (True, None)),
    frozenset({1.0, "x"}),
    complex(5, 0),
    complex(1, 2),
    Decimal("0.1"),
    Decimal("7.0"),
    Decimal("1E-40"),
    datetime.date(2026, 1, 1),
    datetime.datetime(2026, 1, 1),
    datetime.datetime(2026, 1, 1, 6, tzinfo=EAST),
    datetime.time(1, tzinfo=EAST),
    datetime.time(23, tzinfo=ODD),
    datetime.time(23),
    datetime.timedelta(1),
    uuid.UUID(int=7),
]


def zones() -> List[Any]:
    zoneinfo = pytest.importorskip("zoneinfo")
    try:
        zone = zoneinfo.ZoneInfo("Europe/Berlin")
    except zoneinfo.ZoneInfoNotFoundError:
        pytest.skip("SKIPPED: no time zones on this machine")
    return [
        datetime.datetime(2026, 10, 25, 2, 30, tzinfo=zone),
        datetime.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zone),
        datetime.datetime(2026, 7, 1, tzinfo=zone),
        datetime.time(12, tzinfo=zone),
    ]


def exact(value: Any) -> Any:
    """Something that is equal only for values which are the same in every respect."""
    kind = type(value)
    if kind is float:
        return (kind, struct.pack("<d", value))
    if kind is complex:
        return (kind, struct.pack("<dd", value.real, value.imag))
    if kind in (list, tuple):
        return (kind, [exact(item) for item in value])
    if kind in (set, frozenset):
        return (kind, sorted(repr(exact(item)) for item in value))
    if kind is dict:
        return (kind, [(exact(key), exact(item)) for key, item in value.items()])
    if kind in (datetime.datetime, datetime.time):
        return (kind, value.isoformat(), value.fold, repr(value.tzinfo))
    return (kind, repr(value))


def manager(db: Any, repository: str, **more: Any) -> Any:
    import copal

    def fail(error: Exception, _: int) -> None:
        raise AssertionError from error

    more.setdefault("on_backup_failure", fail)
    return copal.BackupManager(db, repository=repository, incremental=True, **more)


def there_and_back(db: Dict[str, Any], repository: str) -> None:
    import copal

    manager(db, repository).backup_now()
    found = copal.load_store(repository, "dict", kind="dict")
    assert exact({name: found[name] for name in db}) == exact(db)


def test_all_values(repository: str) -> None:
    rows = {number: {"value": value, "beside": [value]} for number, value in enumerate(VALUES)}
    there_and_back({"values": rows, "fields": {1: {key: key for key in KEYS}}}, repository)


def test_times_with_zones(repository: str) -> None:
    there_and_back({"values": {number: {"at": value} for number, value in enumerate(zones())}}, repository)
    keys = dict.fromkeys(zones())
    there_and_back({"keys": {key: {"at": key} for key in keys}}, repository)


def test_all_keys_in_fulls_and_deltas(repository: str) -> None:
    import copal

    db: Dict[str, Dict[Any, Any]] = {"t": {key: {"n": number} for number, key in enumerate(KEYS)}}
    assert len(db["t"]) == len(KEYS)
    one = manager(db, repository)
    one.backup_now()
    for key in KEYS[::2]:
        db["t"][key]["n"] += 100
    one.backup_now()
    for key in KEYS[1::2]:
        del db["t"][key]
    one.backup_now()
    assert one.deltas_since_full == 2
    assert exact(copal.load_store(repository, "dict", kind="dict")) == exact(db)


def test_keys_that_are_equal_and_not_the_same(repository: str) -> None:
    import copal

    equal: List[List[Any]] = [
        [1, True, 1.0, Decimal("1.00"), complex(1, 0)],
        [0.0, -0.0, 0, False, Decimal("-0")],
        [0.5, Decimal("0.50"), complex(0.5, -0.0)],
        [(1, (2,)), (True, (2.0,))],
        [frozenset({1}), frozenset({True})],
        [datetime.datetime(2026, 1, 1, 12, tzinfo=UTC), datetime.datetime(2026, 1, 1, 17, 30, tzinfo=EAST)],
        [datetime.time(12, tzinfo=UTC), datetime.time(17, 30, tzinfo=EAST)],
        [datetime.datetime(2026, 1, 1), datetime.datetime(2026, 1, 1, fold=1)],
        [Decimal("1E-400"), Decimal("10E-401")],
    ]
    for keys in equal:
        assert all(key == keys[0] for key in keys), keys
        db: Dict[str, Dict[Any, Any]] = {"t": {"first": {}}}
        one = manager(db, repository, max_deltas_before_full=100)
        one.backup_now()
        for number, key in enumerate([*keys, *reversed(keys)]):
            db["t"].pop(key, None)
            db["t"][key] = {"n": number}
            one.backup_now()
            assert exact(copal.load_store(repository, "dict", kind="dict")) == exact(db)
        del db["t"][keys[1]]
        one.backup_now()
        assert one.deltas_since_full > 0 and copal.load_store(repository, "dict", kind="dict") == {"t": {"first": {}}}


class Text(str):
    pass


class Colour(enum.IntEnum):
    RED = 1


class Zone(datetime.tzinfo):
    def utcoffset(self, _: Any) -> datetime.timedelta:
        return datetime.timedelta(hours=1)


def nested(depth: int) -> List[Any]:
    value: List[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Text("derived"),
        Colour.RED,
        fractions.Fraction(1, 3),
        collections.OrderedDict(a=1),
        collections.namedtuple("Point", "x")(1),
        [1, {"deep": (range(3),)}],
        {object},
        memoryview(b"view"),
        datetime.datetime(2026, 1, 1, tzinfo=Zone()),
        datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1), "CET")),
        nested(600),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_kept_is_named(repository: str, value: Any) -> None:
    import copal

    told: List[Exception] = []
    db: Dict[str, Any] = {"users": {"key 1": {"name": "ok"}, "key 2": {"name": "ok", "field 3": value}}}
    one = manager(db, repository, on_backup_failure=lambda error, _: told.append(error))
    one.backup_now()
    (error,) = told
    assert type(error) is TypeError, error
    for part in ("users", "key 2", "field 3"):
        assert part in str(error)
    with pytest.raises(copal.NotFoundError):
        copal.load_store(repository, "dict", kind="dict")
    db["users"]["key 2"]["field 3"] = "ok"
    one.backup_now()
    db["users"]["key 1"]["other"] = value
    one.backup_now()
    assert "'other'" in str(told[1]) and len(one.list()) == 1, "nothing of it was written"
    del db["users"]["key 1"]["other"]
    db["users"]["key 3"] = {"name": "late"}
    one.backup_now()
    assert copal.load_store(repository, "dict", kind="dict") == db and one.consecutive_failures == 0


def test_values_that_hold_themselves(repository: str) -> None:
    told: List[Exception] = []
    value: List[Any] = []
    value.append(value)
    one = manager({"t": {1: {"v": value}}}, repository, on_backup_failure=lambda error, _: told.append(error))
    one.backup_now()
    assert len(told) == 1 and one.list() == []


@pytest.mark.parametrize("key", [math.nan, (1, math.nan), Decimal("NaN"), Text("derived"), Decimal("1E+5000"), print])
def test_what_is_no_key_is_named(repository: str, key: Any) -> None:
    told: List[Exception] = []
    one = manager({"users": {key: {}}}, repository, on_backup_failure=lambda error, _: told.append(error))
    one.backup_now()
    (error,) = told
    assert type(error) is TypeError and "users" in str(error) and one.list() == []


def test_tables_have_texts_as_names(repository: str) -> None:
    told: List[Exception] = []
    one = manager({1: {}}, repository, on_backup_failure=lambda error, _: told.append(error))
    one.backup_now()
    assert len(told) == 1 and isinstance(told[0], TypeError)
    names = ["", "a/b", "../..", "ü" * 300, 'quoted "', "\x00", "tables", "rows/0"]
    there_and_back({name: {1: {"name": name}} for name in names}, repository)


def test_random_values(repository: str) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    rnd = random.Random(seed)

    def value(depth: int) -> Any:
        kind = rnd.randrange(12 if depth else 6)
        if kind < 6:
            return rnd.choice(VALUES)
        count = rnd.choice([0, 1, 3, 15, 16, 20])
        if kind < 8:
            return [value(depth - 1) for _ in range(count)]
        if kind < 10:
            return tuple(value(depth - 1) for _ in range(count))
        return {rnd.choice([number, str(number), (number,)]): value(depth - 1) for number in range(count)}

    rows = {number: {f"f{field}": value(3) for field in range(rnd.randrange(6))} for number in range(300)}
    there_and_back({"random": rows}, repository)


def test_many_rows_and_shapes(repository: str) -> None:
    rows = {number: {"n": number, f"f{number % 1500}": "x"} for number in range(5000)}
    there_and_back({"many": {n: {"n": n, "s": str(n)} for n in range(10_000)}, "shapes": rows}, repository)


def test_rows_are_caught_at_one_moment(repository: str) -> None:
    """What can be changed inside of a row is copied while the view is taken."""
    import copal

    row = {"set": {1}, "bytes": bytearray(b"1"), "list": [{1: [1]}], "tuple": ([1],)}
    db = {"t": {1: row}}
    one = manager(db, repository)
    captured = one._source.full()
    row["set"].add(2)  # type: ignore[attr-defined]
    row["bytes"].extend(b"2")  # type: ignore[attr-defined]
    row["list"][0][1].append(2)  # type: ignore[index]
    row["tuple"][0].append(2)  # type: ignore[index]
    one._destination.full(captured)
    (found,) = copal.load_store(repository, "dict", kind="dict")["t"].values()
    assert found == {"set": {1}, "bytes": bytearray(b"1"), "list": [{1: [1]}], "tuple": ([1],)}
    assert sys.getrefcount(captured) >= 1
