"""What was found in captured rows: containers of derived classes, rows that change the table, keys that JSON would merge."""

from __future__ import annotations

import collections
import copy
import json
import time
from pathlib import Path
from typing import Any, Dict, List

import pytest

import copal
from copal._copal import capture

Point = collections.namedtuple("Point", "x y")


class Record(dict):  # type: ignore[type-arg]
    """Answers with its attributes, too."""

    more: Any

    def items(self) -> Any:
        return [*super().items(), ("more", self.more)]


class Loud(dict):  # type: ignore[type-arg]
    """Runs nothing of its own while it is copied."""

    ready = False

    def _refuse(self, *_: Any) -> Any:
        raise AssertionError("code of the class was run")

    __init__ = __setitem__ = update = copy = keys = __iter__ = __copy__ = __reduce_ex__ = _refuse  # type: ignore[assignment]


class Items(list):  # type: ignore[type-arg]
    pass


def record() -> Record:
    made = Record(a=[1])
    made.more = "attribute"
    return made


def ordered() -> "collections.OrderedDict[str, Any]":
    made: "collections.OrderedDict[str, Any]" = collections.OrderedDict(a=[1], b=2)
    made.move_to_end("a")
    return made


def loud() -> Loud:
    made: Loud = dict.__new__(Loud)
    dict.update(made, a=[1])
    return made


def change(value: Any) -> None:
    """Changes all lists in a value, and the containers themselves."""
    if isinstance(value, dict):
        for item in list(dict.values(value)):
            change(item)
        dict.__setitem__(value, "new", 1)
        if hasattr(value, "more"):
            value.more = "another"
    elif isinstance(value, (list, tuple)):
        for item in value:
            change(item)
        if isinstance(value, list):
            value.append("new")
    elif isinstance(value, set):
        value.add("new")
    elif isinstance(value, bytearray):
        value.extend(b"new")


NESTED: List[Any] = [
    collections.defaultdict(int, a=[1], b=2),
    ordered(),
    collections.Counter("abc"),
    Items([1, [2]]),
    Point([1], 2),
    record(),
    {"deep": [collections.defaultdict(list, a=Items([1]))]},
    (Point(1, [2]),),
]


@pytest.mark.parametrize("value", NESTED, ids=repr)
def test_what_lies_in_a_row_is_caught_at_the_moment_of_the_view(value: Any) -> None:
    value = copy.deepcopy(value)
    captured = capture([({1: {"id": 1, "v": value}}, "id", None)])[0]
    before = json.dumps({"id": 1, "v": value})
    change(value)
    assert json.dumps({"id": 1, "v": value}) != before
    assert captured.json(0, b"").decode() == before
    assert type(captured.dicts(0)[0]["v"]) is type(value), "so that a destination can refuse what it would change"


@pytest.mark.parametrize("value", [{1}, bytearray(b"1"), ordered(), [{1}]], ids=repr)
def test_pickles_have_it_as_it_was(tmp_path: Path, value: Any) -> None:
    value = copy.deepcopy(value)
    one = copal.BackupManager({"t": {1: {"v": value}}}, tmp_path, file_format="pickle")
    view = one._source.full()
    before = copy.deepcopy(value)
    change(value)
    one._destination.full(view)
    (row,) = copal.load_tables(tmp_path, allow_pickle=True)["t"].values()
    assert row == {"v": before} and type(row["v"]) is type(before)


def test_copies_are_made_without_the_code_of_classes() -> None:
    value = loud()
    captured = capture([({1: {"v": value}}, None, None)])[0]
    assert captured.json(0, b"") == b'{"v": {"a": [1]}}'


def test_what_cannot_change_is_not_copied() -> None:
    point = Point(1, (2, "x"))
    assert capture([({1: {"v": point}}, None, None)])[0].dicts(0)[0]["v"] is point


def test_what_cannot_be_copied_is_refused() -> None:
    moment = time.struct_time(([1], *range(8)))
    with pytest.raises(TypeError, match="struct_time.*cannot be copied"):
        capture([({1: {"v": moment}}, None, None)])


@pytest.mark.parametrize("change", ["insert", "delete"])
def test_rows_with_code_of_their_own_may_change_the_table(tmp_path: Path, change: str) -> None:
    class Row(dict):  # type: ignore[type-arg]
        def items(self) -> Any:
            if waiting:
                waiting.pop()
                if change == "insert":
                    db["t"]["new"] = Row(v=-1)
                else:
                    del db["t"][99]
            return super().items()

    db: Dict[str, Dict[Any, Any]] = {"t": {number: Row(v=number) for number in range(100)}}
    before = {number: {"v": number} for number in range(100)}
    waiting = [True]
    failures: List[Exception] = []
    one = copal.BackupManager(db, tmp_path, on_backup_failure=lambda error, _: failures.append(error))
    one.backup_now()
    assert not waiting and failures == [] and copal.load_tables(tmp_path) == {"t": before}


def test_keys_with_code_of_their_own_may_change_what_they_lie_in() -> None:
    class Name(str):
        def __hash__(self) -> int:
            if waiting:
                inner[str(len(inner))] = row[str(len(row))] = len(row)
            return str.__hash__(self)

        def __eq__(self, other: object) -> bool:
            if waiting:
                inner[str(len(inner))] = row[str(len(row))] = len(row)
            return str.__eq__(self, other)

    waiting: List[bool] = []
    inner: Dict[Any, Any] = {Name("a"): [1], Name("b"): [2]}
    row: Dict[Any, Any] = {Name("id"): 1, "inner": collections.defaultdict(int, inner), "plain": inner}
    waiting.append(True)
    captured = capture([({1: row, 2: {"id": 2}}, "id", None)])[0]
    waiting.clear()
    assert captured.dicts(0)[0]["plain"]["a"] == [1] and len(captured) == 2


COLLIDING: List[Dict[Any, Any]] = [
    {1: "number", "1": "text"},
    {None: 1, "null": 2},
    {True: 1, "true": 2},
    {1.5: 1, "1.5": 2},
    {float("nan"): 1, float("nan"): 2},
]


@pytest.mark.parametrize("row", COLLIDING, ids=repr)
def test_keys_that_json_would_merge_are_refused(tmp_path: Path, row: Dict[Any, Any]) -> None:
    for value in (row, {"v": row}, {"v": [collections.OrderedDict(row)]}):
        with pytest.raises(TypeError, match="several keys of a dict would become"):
            capture([({0: value}, None, None)])[0].json(0, b"")
        one = copal.BackupManager({"t": {1: value}}, tmp_path)
        one.backup_now()
        assert one.consecutive_failures == 1 and one.list() == []
    # A repository or a pickle keeps both.
    kept = copal.BackupManager({"t": {1: {"v": row}}}, tmp_path, file_format="pickle")
    kept.backup_now()
    assert kept.consecutive_failures == 0


def test_keys_that_json_makes_texts_without_merging_them_are_written() -> None:
    row: Dict[Any, Any] = {1: "number", "2": "text", None: {2: 1, "1": 2}, "a": {True: 1, "True": 2, 1.0000001: 3}}
    assert capture([({0: row}, None, None)])[0].json(0, b"") == json.dumps(row).encode()
