"""Random work on a DictDB, saved, failed and restored at every point, against a plain oracle."""

from __future__ import annotations

import copy
import random
import shutil
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from dictdb_support import Failures, content, dictdb, rows

import copal

SEEDS = [random.SystemRandom().randrange(1 << 32) for _ in range(12)]
NAMES = ["a", "b", "ü"]


class Model:
    """A DictDB, and beside it what it should hold, as plain dicts."""

    def __init__(self, rnd: random.Random) -> None:
        self.rnd = rnd
        self.db = dictdb.DictDB()
        self.tables: Dict[str, Dict[Any, Dict[str, Any]]] = {}

    def step(self) -> None:
        if not self.tables or (self.rnd.random() < 0.05 and len(self.tables) < len(NAMES)):
            name = self.rnd.choice([name for name in NAMES if name not in self.tables])
            self.db.create_table(name, "id")
            self.tables[name] = {}
            return
        name = self.rnd.choice(sorted(self.tables))
        table, known = self.db.get_table(name), self.tables[name]
        doing = self.rnd.choice(["insert", "many", "update", "delete", "upsert", "upsert", "index", "drop", "failed"])
        if doing == "insert":
            row = self.row()
            key = table.insert(dict(row))
            known[key] = {**row, "id": key}
        elif doing == "many":
            some = [self.row() for _ in range(self.rnd.randrange(1, 5))]
            for row, key in zip(some, table.insert([dict(row) for row in some])):
                known[key] = {**row, "id": key}
        elif doing == "update" and known:
            value, changed = self.rnd.randrange(5), self.row()
            expected = [key for key, row in known.items() if row.get("v") == value]
            if expected:
                assert table.update(dict(changed), where=table.v == value) == len(expected)
                for key in expected:
                    known[key].update(changed)
        elif doing == "delete" and known:
            key = self.rnd.choice(list(known))
            table.delete(where=table.id == key)
            del known[key]
        elif doing == "upsert":
            key = self.rnd.choice([*known, "text", 2.5, 7, -3])
            row = {**self.row(), "id": key}
            table.upsert(dict(row))
            known[key] = {**known.get(key, {}), **row}
        elif doing == "index":
            table.create_index(self.rnd.choice(["v", "s"]), "hash")
        elif doing == "drop" and self.rnd.random() < 0.2:
            self.db.drop_table(name)
            del self.tables[name]
        elif doing == "failed" and known:
            with pytest.raises(dictdb.DuplicateKeyError):
                table.insert([self.row(), {**self.row(), "id": self.rnd.choice(list(known))}])

    def row(self) -> Dict[str, Any]:
        value = self.rnd.choice([None, "x", "é\U0001f600", 1.5, [1, {"k": [None]}], True, 2**70])
        return {"v": self.rnd.randrange(5), "s": self.rnd.randrange(3), "more": copy.deepcopy(value)}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("form", ["json", "pickle"])
def test_every_saved_state_comes_back(tmp_path: Path, seed: int, form: str) -> None:
    print("seed", seed)
    rnd = random.Random(seed)
    model = Model(rnd)
    failures = Failures()

    def open_manager() -> copal.BackupManager:
        return copal.BackupManager(
            model.db,
            tmp_path / "backups",
            file_format=form,
            incremental=True,
            max_deltas_before_full=4,
            on_backup_failure=failures,
            durable=False,
        )

    one = open_manager()
    points: List[Tuple[Any, Any]] = []
    expected_failures = 0
    for _ in range(60):
        for _ in range(rnd.randrange(12)):
            model.step()
        assert rows(model.db) == model.tables
        doing = rnd.random()
        if doing < 0.1:
            # The folder is away for a moment.
            shutil.move(str(tmp_path / "backups"), str(tmp_path / "away"))
            rnd.choice([one.backup_full, one.backup_now])()
            shutil.move(str(tmp_path / "away"), str(tmp_path / "backups"))
            expected_failures = len(failures)
            continue
        if doing < 0.15:
            one = open_manager()
        if doing < 0.25 and points:
            when, state = rnd.choice(points)
            one.restore(when, replace=True, allow_pickle=True)
            assert content(model.db) == state
            model.tables = copy.deepcopy(rows(model.db))
        before = len(one.list())
        rnd.choice([one.backup_now, one.backup_now, one.backup_delta, one.backup_full])()
        assert len(failures) == expected_failures, failures
        files = one.list()
        if len(files) > before:
            points.append((files[-1].time, copy.deepcopy(content(model.db))))
        if files:
            assert content(copal.load_dictdb(tmp_path / "backups", allow_pickle=True)) == content(model.db)
    for when, state in points:
        loaded = copal.load_dictdb(tmp_path / "backups", when, allow_pickle=True)
        assert content(loaded) == state
        for table in loaded.tables.values():
            for field in table.indexes:
                for value in range(5):
                    found = {row["id"] for row in table.select(where=getattr(table, field) == value)}
                    assert found == {key for key, row in table.records.items() if row.get(field) == value}
    assert all(checked.problem is None for checked in one.verify())
