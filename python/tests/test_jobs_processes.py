"""Schedulers in real processes: forks, ends, kills, and backups that are restored."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any, Callable, List

import pytest
from conftest import children, is_at_work, wait_for
from services import assert_one_each_time

import copal
from copal.jobs import Event, Job, Scheduler


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", ((number,) for number in range(1000)))
    connection.close()
    return path


def rows(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        (count,) = connection.execute("SELECT count(*) FROM t").fetchone()
        return int(count)
    finally:
        connection.close()


def test_a_connection_of_the_program_is_a_source(database: Path, repository: str, tmp_path: Path) -> None:
    connection = sqlite3.connect(database)
    events: List[Event] = []
    scheduler = Scheduler(
        [Job(connection, "@daily", keep={"last": 1}, drill="@daily", name="My shop")],
        repository=repository,
        on_event=events.append,
    )
    with scheduler:
        first = wait_for(lambda: scheduler.status().jobs[0].last_backup, "a backup")
        with connection:
            connection.execute("INSERT INTO t VALUES (1000)")
        second = scheduler.run_now().result(120)
    assert first != second
    assert [event.kind for event in events if event.run == "backup"] == ["started", "succeeded"] * 2
    (kept,) = scheduler.backups()["My shop"]
    assert kept.id == second
    copal.restore(kept.database, to=tmp_path / "copy.db", repository=repository)
    assert rows(tmp_path / "copy.db") == 1001
    # Another process finds it under the same name, and has nothing to make up for.
    other = Scheduler([Job(database, "@daily", name="My shop")], repository=repository)
    assert other.status(look_after=0).jobs[0].last_backup == second
    connection.close()


def test_a_drill_that_finds_nothing_wrong(database: Path, repository: str) -> None:
    copal.backup(database, name="app", repository=repository)
    with Scheduler([Job(database, None, drill="every 1s", name="app")], repository=repository) as scheduler:
        wait_for(lambda: scheduler.status().jobs[0].last_drill, "a drill")
        assert scheduler.status().jobs[0].problems == ()
    assert copal.list_backups("app", repository=repository)[-1].verified


SERVICE = """
    import os, sys, time
    from copal.jobs import Job, Scheduler
    database, repository = sys.argv[1:3]
    scheduler = Scheduler([Job(database, "every 2s", name="app")], repository=repository)
"""


def test_a_fork_leaves_the_schedule_to_its_parent(database: Path, repository: str, program: Callable[..., Any]) -> None:
    service = program(
        SERVICE
        + """
    scheduler.start()
    while scheduler.status().jobs[0].last_backup is None:
        time.sleep(0.05)
    read, write = os.pipe()
    if os.fork() == 0:
        seen = scheduler.running
        # It may have a schedule of its own, if it wants one.
        scheduler.start()
        made = scheduler.run_now().result(100)
        scheduler.stop()
        os.write(write, f"{seen} {made}".encode())
        os._exit(0)
    print("child", os.read(read, 1000).decode(), flush=True)
    newest = scheduler.status().jobs[0].last_backup
    while scheduler.status().jobs[0].last_backup == newest:
        time.sleep(0.05)
    scheduler.stop()
    print("parent", scheduler.running, flush=True)
    """,
        str(database),
        repository,
    )
    code, out, err = service.end()
    assert code == 0, err
    child, parent = out.splitlines()
    assert child.startswith("child False 2")
    assert parent == "parent False"


@pytest.mark.parametrize("end", ["pass", "sys.exit(3)", "1 / 0", "os.kill(os.getpid(), 2)"])
def test_the_interpreter_ends_while_a_backup_is_made(
    end: str, database: Path, repository: str, program: Callable[..., Any]
) -> None:
    service = program(
        SERVICE
        + f"""
    scheduler.start()
    while scheduler.status().jobs[0].running is None:
        time.sleep(0.001)
    print("running", flush=True)
    {end}
    """,
        str(database),
        repository,
    )
    code, out, err = service.end()
    assert out == "running\n", err
    assert code in {"pass": (0,), "sys.exit(3)": (3,), "1 / 0": (1,)}.get(end, (1, 130, -signal.SIGINT))
    # Nothing half made is left in the way.
    copal.backup(database, name="app", repository=repository)
    assert all(verified.verified for verified in copal.verify("app", backup="all", repository=repository))


def test_killed_and_started_again(database: Path, repository: str, program: Callable[..., Any]) -> None:
    code = SERVICE + "    scheduler.start()\n    print('up', flush=True)\n    time.sleep(600)\n"
    for _ in range(3):
        service = program(code, str(database), repository)
        assert service.line() == "up"
        have = len(copal.list_backups(repository=repository))
        wait_for(lambda: len(copal.list_backups(repository=repository)) > have, "a backup")
        service.process.kill()
        service.process.wait()
    made = copal.list_backups("app", repository=repository)
    assert_one_each_time(made, 2)
    assert all(verified.verified for verified in copal.verify("app", backup="all", repository=repository))


def test_of_four_processes_one_makes_each_backup(database: Path, repository: str, program: Callable[..., Any]) -> None:
    code = SERVICE + "    scheduler.start()\n    sys.stdin.readline()\n    scheduler.stop()\n"
    services = [program(code, str(database), repository) for _ in range(4)]
    wait_for(lambda: len(copal.list_backups(repository=repository)) >= 3, "backups")
    for service in services:
        service.say("stop")
    for service in services:
        status, _, err = service.end()
        assert (status, err) == (0, "")
    made = copal.list_backups("app", repository=repository)
    assert_one_each_time(made, 2)


def test_a_configuration_is_what_runs(database: Path, repository: str, tmp_path: Path) -> None:
    config = tmp_path / "copal.toml"
    config.write_text(
        f'[repository]\nurl = "{repository}"\n[databases.shop]\nurl = "sqlite:app.db"\nschedule = "every 1s"\nkeep = {{ last = 2 }}\n'
        '[databases.unscheduled]\nurl = "sqlite:other.db"\n'
    )
    events: List[Event] = []
    with Scheduler(config=config, on_event=events.append) as scheduler:
        wait_for(lambda: [event.kind for event in events].count("succeeded") >= 3, "three backups")
    assert [job.title for job in scheduler.jobs] == ["shop"]
    assert len(copal.list_backups("shop", config=config)) == 2
    assert "warning" not in [event.kind for event in events]


def stops_without_locks(process: int) -> bool:
    """Stops a process, but not while it writes its lease under a lock, for which everybody would wait."""
    os.kill(process, signal.SIGSTOP)
    wait_for(lambda: Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T", "the stop")
    if any("lock:" in info.read_text() for info in Path(f"/proc/{process}/fdinfo").iterdir()):
        os.kill(process, signal.SIGCONT)
        return False
    return True


def test_who_finds_another_operation_does_not_queue_behind_it(database: Path, repository: str, tmp_path: Path) -> None:
    before = set(children(os.getpid()))
    # A backup of what nobody can read for now waits with the lease taken: it cannot be done too early.
    (tmp_path / "copal.toml").write_text('database_wait = "1h"\n')
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    other = threading.Thread(target=copal.backup, args=(database,), kwargs={"name": "app", "repository": repository})
    other.start()
    wait_for(lambda: is_at_work(repository) or not other.is_alive(), "a lease")
    (child,) = set(children(os.getpid())) - before
    # Until it does nothing but wait for the database.
    time.sleep(2)
    wait_for(lambda: stops_without_locks(child), "a moment in which it locks nothing")
    connection.close()
    events: List[Event] = []
    try:
        job = Job(database, "@daily", name="app")
        with Scheduler([job], repository=repository, on_event=events.append) as scheduler:
            wait_for(lambda: "busy" in [event.kind for event in events], "somebody else")
            assert scheduler.status().jobs[0].problems == ("there is no backup yet",)
            os.kill(child, signal.SIGCONT)
            wait_for(lambda: "elsewhere" in [event.kind for event in events], "the backup of somebody else")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGCONT)
        other.join()
    assert len(copal.list_backups("app", repository=repository)) == 1
