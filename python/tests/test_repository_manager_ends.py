"""Ends of programs that save to a repository: killed, forked, left, and what they had been told is saved is there."""

from __future__ import annotations

import os
import random
import signal
from typing import Any, Callable, Dict, List

import pytest

from conftest import Program

Start = Callable[..., Program]


@pytest.fixture
def encrypted(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """An encrypted repository whose passphrase is in the environment."""
    import copal

    monkeypatch.setenv("COPAL_PASSPHRASE", "amber")
    return copal.init(tmp_path / "repository").repository


def loaded(repository: str) -> Dict[str, Any]:
    import copal

    found: Dict[str, Any] = copal.load_store(repository, "dict", kind="dict")
    return found


WRITER = """
    import sys, copal
    first = int(sys.argv[2])
    db = {"t": {}} if first == 0 else copal.load_store(sys.argv[1], "dict", kind="dict")
    def failed(error, count):
        print("failed", repr(error), flush=True)
    manager = copal.BackupManager(db, repository=sys.argv[1], incremental=True, max_deltas_before_full=4, on_backup_failure=failed)
    for number in range(first, first + 1000):
        db["t"][number] = {"n": number, "text": "x" * (number % 50)}
        db["t"].pop(number - 20, None)
        manager.backup_now()
        print(number, len(db["t"]), flush=True)
"""


def test_what_was_acknowledged_survives_kills(encrypted: str, program: Start) -> None:
    rnd = random.Random()
    newest = -1
    for _ in range(6):
        writer = program(WRITER, encrypted, str(newest + 1))
        told: List[str] = []
        for _ in range(rnd.randrange(1, 9)):
            told.append(writer.line())
            assert not told[-1].startswith("failed"), told
        # Somewhere within the next save.
        os.sched_yield()
        writer.process.send_signal(signal.SIGKILL)
        _, rest, err = writer.end()
        told += rest.split("\n")
        newest = max(int(line.split()[0]) for line in told if line.count(" ") == 1)
        rows = loaded(encrypted)["t"]
        assert newest in rows, err
        assert max(rows) in (newest, newest + 1), "at most what was being saved is there, too"
        assert rows == {n: {"n": n, "text": "x" * (n % 50)} for n in range(max(0, max(rows) - 19), max(rows) + 1)}
        newest = max(rows)
    import copal

    assert all(one.is_good for one in copal.verify("dict", repository=encrypted, backup="all"))


def test_a_child_saves_for_itself(encrypted: str, program: Start) -> None:
    code = """
        import os, sys, copal
        def failed(error, count):
            print("failed", repr(error), flush=True)
        db = {"t": {1: {"who": "parent"}}}
        manager = copal.BackupManager(db, repository=sys.argv[1], incremental=True, on_backup_failure=failed)
        manager.start()
        manager.backup_now()
        child = os.fork()
        if child == 0:
            db["t"][2] = {"who": "child"}
            manager.backup_now()
            print([one.kind for one in manager.list()], flush=True)
            assert manager.restore(replace=True).kind == "full"
            os._exit(0)
        os.waitpid(child, 0)
        print([one.kind for one in manager.list()], flush=True)
        db["t"][3] = {"who": "parent"}
        manager.backup_now()
        print([one.kind for one in manager.list()], flush=True)
        manager.stop()
    """
    forked = program(code, encrypted)
    code_, out, err = forked.end()
    assert code_ == 0, err
    assert out.split("\n")[:3] == ["['full', 'full']", "['full', 'full']", "['full', 'full', 'full']"], out + err
    assert set(loaded(encrypted)["t"]) == {1, 3}


def test_forks_while_threads_save(encrypted: str, program: Start) -> None:
    code = """
        import os, sys, time, copal
        def failed(error, count):
            print("failed", repr(error), flush=True)
        db = {"t": {}}
        manager = copal.BackupManager(db, repository=sys.argv[1], name="parent", incremental=True, min_backup_interval=0, on_backup_failure=failed)
        manager.start()
        for number in range(12):
            db["t"][number] = {"n": number}
            manager.notify_change()
            time.sleep(number / 200)
            child = os.fork()
            if child == 0:
                mine = copal.BackupManager(db, repository=sys.argv[1], name=f"child {number}", on_backup_failure=failed)
                mine.backup_now()
                os._exit(0 if mine.consecutive_failures == 0 else 1)
            assert os.waitpid(child, 0)[1] == 0
        manager.stop()
        print("saved", flush=True)
    """
    forked = program(code, encrypted)
    code_, out, err = forked.end()
    assert (code_, out) == (0, "saved\n"), err
    import copal

    assert len(copal.load_store(encrypted, "parent", kind="dict")["t"]) == 12
    assert len(copal.load_store(encrypted, "child 11", kind="dict")["t"]) == 12


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "raise RuntimeError('left')"])
def test_the_end_of_the_interpreter_saves_what_changed(encrypted: str, program: Start, ending: str) -> None:
    code = f"""
        import sys, copal
        db = {{"t": {{n: {{"n": n}} for n in range(2000)}}}}
        manager = copal.BackupManager(db, repository=sys.argv[1], incremental=True, min_backup_interval=0)
        manager.start()
        manager.notify_change()
        db["t"][-1] = {{"last": True}}
        manager.notify_change()
        {ending}
    """
    left = program(code, encrypted)
    _, _, err = left.end()
    assert loaded(encrypted)["t"][-1] == {"last": True}, err
    assert "Fatal" not in err and "panicked" not in err


def test_a_child_that_loads_what_its_parent_saves(encrypted: str, program: Start) -> None:
    code = """
        import multiprocessing, sys, copal
        def look(repository, answers):
            answers.put(len(copal.load_store(repository, "dict", kind="dict")["t"]))
        db = {"t": {1: {}}}
        manager = copal.BackupManager(db, repository=sys.argv[1])
        manager.backup_now()
        context = multiprocessing.get_context("fork")
        answers = context.Queue()
        children = [context.Process(target=look, args=(sys.argv[1], answers)) for _ in range(3)]
        [child.start() for child in children]
        print(sorted(answers.get(timeout=100) for _ in children), flush=True)
        [child.join() for child in children]
    """
    forked = program(code, encrypted)
    code_, out, err = forked.end()
    assert (code_, out) == (0, "[1, 1, 1]\n"), err
