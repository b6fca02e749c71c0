"""Rows captured and encoded natively: exactly the JSON of the standard library."""

from __future__ import annotations

import collections
import enum
import json
import math
import random
import string
import struct
import threading
from typing import Any

import pytest

from copal._copal import capture

SEED = random.SystemRandom().randrange(1 << 32)


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    pass


class Number(float):
    def __repr__(self) -> str:
        return "not this"


Point = collections.namedtuple("Point", "x y")


def encoded(row: Any, exact: bool = False) -> bytes:
    return capture([({0: row}, None, None)])[0].json(0, b"", exact)


def some_value(rnd: random.Random, depth: int = 0) -> Any:
    kinds = 13 if depth < 4 else 9
    kind = rnd.randrange(kinds)
    if kind == 0:
        return rnd.choice([None, True, False])
    if kind == 1:
        return rnd.randint(-(10 ** rnd.randint(1, 40)), 10 ** rnd.randint(1, 40))
    if kind == 2:
        return struct.unpack("d", rnd.getrandbits(64).to_bytes(8, "little"))[0]
    if kind == 3:
        return rnd.choice(
            [0.0, -0.0, 1e16, 1e15, 9999999999999998.0, 1e-4, 1e-5, 5e-324, 1e22, 1e23, math.nan, -math.inf]
        )
    if kind == 4:
        return round(rnd.uniform(-1e6, 1e6), rnd.randint(0, 6))
    if kind == 5:
        return "".join(
            chr(rnd.choice([rnd.randrange(0x20), rnd.randrange(0x20, 0x80), rnd.randrange(0x11_0000)]))
            for _ in range(rnd.randrange(12))
        )
    if kind == 6:
        return "".join(rnd.choices(string.printable, k=rnd.randrange(30)))
    if kind == 7:
        return rnd.choice([Level.LOW, Text('ä"\\'), Number(1.5), Point(1, "b")])
    if kind == 8:
        return rnd.choice(["\ud800", "\udc00x", "\U0001f600", "\x7f\x1f\u2028"])
    if kind == 9:
        return [some_value(rnd, depth + 1) for _ in range(rnd.randrange(5))]
    if kind == 10:
        return tuple(some_value(rnd, depth + 1) for _ in range(rnd.randrange(4)))
    make = collections.OrderedDict if kind == 11 else dict
    return make((some_key(rnd), some_value(rnd, depth + 1)) for _ in range(rnd.randrange(5)))


def some_key(rnd: random.Random) -> Any:
    return rnd.choice(["a", "ß", "", "\n", 7, -(2**70), 1.5, 1e300, math.inf, None, True, False, Level.LOW, Text("t")])


def test_any_value_is_encoded_as_json_dumps_does() -> None:
    print("seed", SEED)
    rnd = random.Random(SEED)
    for _ in range(6_000):
        row = {some_key(rnd): some_value(rnd) for _ in range(rnd.randrange(6))}
        assert encoded(row) == json.dumps(row).encode(), row


def test_any_float_is_encoded_as_repr_does() -> None:
    print("seed", SEED)
    rnd = random.Random(SEED)
    numbers = [struct.unpack("d", rnd.getrandbits(64).to_bytes(8, "little"))[0] for _ in range(50_000)]
    numbers += [rnd.random() * 10.0 ** rnd.randint(-330, 308) for _ in range(50_000)]
    numbers += [float(10**power) * sign for power in range(30) for sign in (1, -1)]
    numbers += [math.ldexp(1.0, power) for power in range(-1074, 1024)]
    records = {position: {"v": number} for position, number in enumerate(numbers)}
    captured = capture([(records, None, None)])[0]
    lines = b"\n".join(captured.json(block, b"\n") for block in range(captured.blocks)).split(b"\n")
    assert lines == [json.dumps({"v": number}).encode() for number in numbers]


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", object(), 1j, [{"deep": {3}}]])
def test_what_json_cannot_hold_is_a_type_error_like_that_of_json(value: Any) -> None:
    with pytest.raises(TypeError) as expected:
        json.dumps({"v": value})
    with pytest.raises(TypeError) as error:
        encoded({"v": value})
    assert str(error.value) == str(expected.value)


def test_keys_that_json_cannot_hold_are_type_errors() -> None:
    with pytest.raises(TypeError, match="keys must be str, int, float, bool or None, not tuple"):
        encoded({(1, 2): 1})


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: "list[Any]" = []
    loop.append(loop)
    with pytest.raises(ValueError, match="Circular reference"):
        encoded({"v": loop})


@pytest.mark.parametrize("value", [(1,), Level.LOW, Text("x"), Number(1.0), {1: 2}, Point(1, 2), {"a": [()]}])
def test_exact_refuses_what_would_come_back_as_another_type(value: Any) -> None:
    with pytest.raises(TypeError, match="does not keep"):
        encoded({"v": value}, exact=True)
    assert (
        encoded({"v": [1, 2.5, None, True, "x", {"y": {}}]}, exact=True)
        == json.dumps({"v": [1, 2.5, None, True, "x", {"y": {}}]}).encode()
    )


def test_a_capture_does_not_see_later_changes() -> None:
    inner = {"list": [1, {"a": 1}], "tuple": ([1],)}
    records = {1: {"id": 1, "v": inner}, 2: {"id": 2, "v": 0}}
    captured = capture([(records, "id", None)])[0]
    before = json.dumps(records[1]) + "|" + json.dumps(records[2])
    inner["list"][1]["a"] = 2  # type: ignore[index]
    inner["tuple"][0].append(2)  # type: ignore[union-attr]
    records[2]["v"] = 5
    del records[1]
    assert captured.json(0, b"|").decode() == before


def test_rows_of_many_shapes_and_blocks_keep_their_order() -> None:
    rnd = random.Random(3)
    records = {}
    for number in range(9_000):
        fields = rnd.sample(string.ascii_letters, rnd.randrange(6)) + ([f"own {number}"] if number % 3 == 0 else [])
        records[number] = {"id": number, **{field: number for field in fields}}
    captured = capture([(records, "id", None)])[0]
    dicts = [row for block in range(captured.blocks) for row in captured.dicts(block)]
    assert dicts == list(records.values()) and captured.keys is None and len(captured) == 9_000
    texts = b"\n".join(captured.json(block, b"\n") for block in range(captured.blocks))
    assert texts.decode().split("\n") == [json.dumps(row) for row in records.values()]
    some = sorted(rnd.sample(range(9_000), 500))
    picked = captured.pick(some)
    assert [row["id"] for block in range(picked.blocks) for row in picked.dicts(block)] == some


def test_wanted_keys_and_rows_that_name_another_key() -> None:
    records = {1: {"id": 1}, 2: {"id": 9}, 3: {"id": 3}}
    whole, wanted = capture([(records, "id", None), (records, "id", [3, 7, 1])])
    assert whole.keys == [1, 2, 3]
    assert wanted.keys is None and wanted.missing == [7] and wanted.dicts(0) == [{"id": 3}, {"id": 1}]
    assert capture([({(1, 2): {}}, None, None)])[0].odd_key == (1, 2)


def test_rows_that_are_no_dicts_are_refused() -> None:
    with pytest.raises(TypeError, match="is a list, not a dict"):
        capture([({1: []}, None, None)])  # type: ignore[dict-item]


def test_all_tables_are_captured_at_one_moment() -> None:
    accounts = {
        "a": {number: {"v": 1000} for number in range(500)},
        "b": {number: {"v": 1000} for number in range(500)},
    }
    stop = threading.Event()

    def move() -> None:
        rnd = random.Random(1)
        while not stop.is_set():
            number = rnd.randrange(500)
            # One statement moves from one table to the other.
            accounts["a"][number], accounts["b"][number] = accounts["b"][number], accounts["a"][number]
            accounts["a"][number] = {"v": accounts["a"][number]["v"]}

    thread = threading.Thread(target=move)
    thread.start()
    try:
        for _ in range(200):
            captured = capture([(table, None, None) for table in accounts.values()])
            assert [len(rows) for rows in captured] == [500, 500]
            assert all(row == {"v": 1000} for rows in captured for row in rows.dicts(0))
    finally:
        stop.set()
        thread.join()
