"""Calls that do not run to their end: Ctrl-C, callbacks that raise, cancelled tasks, forks, and the end of the interpreter."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import signal
import sqlite3
import sys
import threading
import time
from typing import Any, Callable, List

import pytest
from conftest import children, is_at_work, wait_for
from test_backups import count, make

import copal
from copal import _child


@pytest.fixture
def held() -> Any:
    """A database that nobody can read for now: a backup of it waits, half a minute by default."""
    make("held.db", 10)
    connection = sqlite3.connect("held.db", isolation_level=None)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    yield connection
    connection.close()


#: Calls that wait for ever: in a child process, and in this one.
IN_CHILD = 'copal.backup("held.db", repository=settings["repository"])'
HERE = "copal.list_backups(**store)"


def start(program: Callable[..., Any], code: str, repository: str, store: Any) -> Any:
    head = "import copal, json, os, sys, threading, time\nsettings, store = map(json.loads, sys.argv[1:])\n"
    return program(head + code, json.dumps({"repository": repository}), json.dumps(store))


@pytest.mark.parametrize("call", [IN_CHILD, HERE])
def test_control_c_ends_a_call(
    call: str, repository: str, held: Any, silent_store: Any, program: Callable[..., Any]
) -> None:
    code = f"""
print("begins", flush=True)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
sys.stdin.readline()
"""
    running = start(program, code, repository, silent_store)
    assert running.line() == "begins"
    if call == IN_CHILD:
        wait_for(lambda: children(running.process.pid), "the child process")
    # The import may still be under way, and is as good a moment as any.
    wait_for(lambda: len(os.listdir(f"/proc/{running.process.pid}/task")) > 1 or call == IN_CHILD, "the work")
    running.interrupt()
    assert running.line() == "interrupted"
    # A child that was only just started gets no request, and ends by itself.
    wait_for(lambda: not children(running.process.pid), "the end of the child")
    running.say("")
    code_, _, err = running.end()
    assert code_ == 0, err
    held.close()
    assert copal.backup("held.db", repository=repository).id


def test_a_second_control_c_waits_for_nothing(repository: str, held: Any, program: Callable[..., Any]) -> None:
    code = f"""
import signal
print("begins", flush=True)
try:
    {IN_CHILD}
except KeyboardInterrupt:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("interrupted", flush=True)
"""
    running = start(program, code, repository, {})
    assert running.line() == "begins"
    # Only a child that has its request is waited for.
    wait_for(lambda: is_at_work(repository), "a lease")
    (child,) = children(running.process.pid)
    os.kill(child, signal.SIGSTOP)
    running.interrupt()
    time.sleep(0.5)
    assert running.process.poll() is None and children(running.process.pid) == [child]
    line: List[str] = []
    reader = threading.Thread(target=lambda: line.append(running.line()))
    reader.start()
    while reader.is_alive():
        running.interrupt()
        reader.join(0.5)
    assert line == ["interrupted"] and running.end()[0] == 0
    wait_for(lambda: not os.path.exists(f"/proc/{child}"), "the end of the child")
    held.close()
    assert copal.backup("held.db", repository=repository).id


def test_what_progress_raises_cancels_the_call(repository: str) -> None:
    make("app.db", 50_000)
    before = children(os.getpid())

    class Enough(Exception):
        pass

    def tell(progress: copal.Progress) -> None:
        raise Enough(progress.phase)

    with pytest.raises(Enough):
        copal.backup("app.db", repository=repository, progress=tell)
    copal.backup("app.db", repository=repository)
    with pytest.raises(Enough):
        copal.verify("app.db", repository=repository, progress=tell)
    # It cannot be done before it is cancelled: what it would replace is held.
    make("copy.db", 1)
    holder = sqlite3.connect("copy.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Enough):
        copal.restore("app.db", to="copy.db", replace=True, repository=repository, progress=tell)
    holder.close()
    assert count("copy.db") == 1
    assert children(os.getpid()) == before
    assert copal.verify("app.db", repository=repository)[0].is_good


def test_cancelled_tasks_end_when_the_work_has(repository: str, held: Any, silent_store: Any) -> None:
    before = children(os.getpid())

    async def main() -> None:
        tasks = [asyncio.create_task(copal.aio.backup("held.db", repository=repository)) for _ in range(2)]
        tasks += [asyncio.create_task(copal.aio.list_backups(**silent_store)) for _ in range(2)]  # type: ignore[list-item]
        while len(children(os.getpid())) < len(before) + 2:
            await asyncio.sleep(0.02)
        # The loop goes on meanwhile.
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        # Twice, as a time-out inside of a cancelled group does.
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in done), done
        assert children(os.getpid()) == before
        assert not [thread for thread in threading.enumerate() if thread.name == "copal-call"]
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(copal.aio.backup("held.db", repository=repository), 0.5)
        held.close()
        assert (await copal.aio.backup("held.db", repository=repository)).id

    asyncio.run(main())


def test_coroutines_answer_as_functions_do(repository: str) -> None:
    make("app.db", 10)

    async def main() -> None:
        client = copal.aio.Copal(repository)
        told: List[copal.Progress] = []
        backup = await client.backup("app.db", progress=told.append)
        assert told and await client.list_backups("app.db") == [backup]
        both = await asyncio.gather(client.verify("app.db"), client.restore("app.db", to="copy.db"))
        assert both[0][0].is_good and count("copy.db") == 10
        with pytest.raises(copal.NotFoundError):
            await client.show("nothing")
        with pytest.raises(copal.UsageError):
            await copal.aio.backup(42, repository=repository)
        assert (await copal.aio.prune("app.db", keep={"last": 1}, repository=repository)).deleted == ()
        assert (await copal.aio.status("app.db", repository=repository))[0].protected

    asyncio.run(main())


def test_a_fork_goes_on_by_itself(repository: str, program: Callable[..., Any], silent_store: Any) -> None:
    make("app.db", 10)
    # A thread of the parent is inside a call when it forks, and the client has been used before.
    code = """
import warnings
warnings.simplefilter("ignore")
client = copal.Copal(settings["repository"])
client.backup("app.db")
client.list_backups()
threading.Thread(target=lambda: copal.list_backups(**store), daemon=True).start()
time.sleep(0.3)
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        client.backup("app.db")
        print(len(client.list_backups()), client.verify("app.db")[0].is_good, flush=True)
        del client
        sys.exit(0)
    print(os.waitpid(pid, 0)[1], flush=True)
print(len(client.list_backups()), flush=True)
"""
    running = start(program, code, repository, silent_store)
    status, out, err = running.end()
    assert (status, out.split("\n")) == (0, ["2 True", "0", "3 True", "0", "4 True", "0", "4", ""]), err


def test_work_of_the_parent_is_not_waited_for_in_a_fork(program: Callable[..., Any], silent_store: Any) -> None:
    code = """
import warnings
warnings.simplefilter("ignore")
from copal import _copal
session = _copal.Session(json.dumps(store))
work = session.start("list", '{"database": null}')
pid = os.fork()
if pid == 0:
    try:
        work.next(60.0)
    except _copal.Failure as failure:
        print(failure, flush=True)
    del work, session
    sys.exit(0)
print(os.waitpid(pid, 0)[1], flush=True)
work.cancel()
while True:
    try:
        work.next(1.0)
    except _copal.Failure as failure:
        print(json.loads(str(failure))["kind"], flush=True)
        break
"""
    status, out, err = start(program, code, "", silent_store).end()
    assert status == 0 and "forked" in out and out.endswith("0\ninterrupted\n"), err


@pytest.mark.parametrize("call", [IN_CHILD, HERE])
@pytest.mark.parametrize("ending", ["pass", "sys.exit(0)", "os.kill(os.getpid(), 9)"])
def test_the_end_of_the_interpreter_ends_calls(
    call: str, ending: str, repository: str, held: Any, silent_store: Any, program: Callable[..., Any]
) -> None:
    code = f"""
def work():
    {call}
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
print("begins", flush=True)
sys.stdin.readline()
{ending}
"""
    running = start(program, code, repository, silent_store)
    assert running.line() == "begins"
    pid = running.process.pid
    begun = wait_for(lambda: len(children(pid)) == 3 and children(pid), "three children") if call == IN_CHILD else []
    running.say("")
    status, _, err = running.end()
    assert status == (-signal.SIGKILL if "kill" in ending else 0), err
    assert "panicked" not in err and "Fatal" not in err
    wait_for(lambda: not any(os.path.exists(f"/proc/{child}") for child in begun), "the end of the children")
    held.close()
    assert copal.backup("held.db", repository=repository).id


def test_a_child_that_is_killed_is_told(repository: str, held: Any) -> None:
    failures: List[BaseException] = []

    def work() -> None:
        try:
            copal.backup("held.db", repository=repository)
        except copal.CopalError as error:
            failures.append(error)

    before = set(children(os.getpid()))
    thread = threading.Thread(target=work)
    thread.start()
    (child,) = wait_for(lambda: set(children(os.getpid())) - before, "the child process")
    os.kill(child, signal.SIGKILL)
    thread.join()
    assert "killed by signal 9" in str(failures[0])
    held.close()
    assert copal.backup("held.db", repository=repository).id


def test_another_python_can_be_named(repository: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("app.db", 1)
    monkeypatch.setattr(_child, "_python", None)
    real = sys.executable
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(copal.UnsupportedError, match="set_python"):
        copal.backup("app.db", repository=repository)
    copal.set_python(real)
    assert copal.backup("app.db", repository=repository).id
    copal.set_python(tmp_path / "nothing")
    with pytest.raises(copal.CopalError, match="cannot be started"):
        copal.backup("app.db", repository=repository)
    copal.set_python("/bin/false")
    with pytest.raises(copal.CopalError, match="without an answer"):
        copal.backup("app.db", repository=repository)


def test_modules_of_the_working_folder_do_not_get_into_the_child(repository: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make("app.db", 1)
    for name in ("json", "signal", "threading", "copal", "subprocess"):
        pathlib.Path(f"{name}.py").write_text("raise SystemExit(7)\n")
    monkeypatch.setenv("PYTHONSTARTUP", "json.py")
    monkeypatch.setenv("PYTHONINSPECT", "1")
    assert copal.backup("app.db", repository=repository).id


def test_thirty_two_threads_at_once(repository: str) -> None:
    client = copal.Copal(repository)
    for number in range(4):
        make(f"app{number}.db", 10)
        client.backup(f"app{number}.db")
    answers: List[Any] = []
    barrier = threading.Barrier(32)

    def work(number: int) -> None:
        database = f"app{number % 4}.db"
        barrier.wait()
        try:
            kind = number // 4
            if kind == 0:
                # One for each database, from one client.
                answers.append(client.backup(database).id)
            elif kind % 3 == 1:
                answers.append(len(client.list_backups(database)))
            elif kind % 3 == 2:
                answers.append(client.verify(database)[0].is_good)
            else:
                answers.append(copal.Copal(repository).status(database)[0].protected)
        except BaseException as error:
            answers.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 32 and not [one for one in answers if isinstance(one, BaseException)], answers
    assert all(answers) and len(client.list_backups()) == 8
