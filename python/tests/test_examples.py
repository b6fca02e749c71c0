"""The examples: typed, run as their pages say, and saying what there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from services import EXAMPLES, example

import copal

NAMES = sorted(folder.name for folder in EXAMPLES.glob("python-*"))


def run(folder: Path, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A command in an example, with this Python as ``python3``."""
    binaries = folder / ".bin"
    binaries.mkdir(exist_ok=True)
    if not (binaries / "python3").exists():
        (binaries / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" -B "$@"\n')
        (binaries / "python3").chmod(0o755)
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_all_are_here() -> None:
    assert NAMES == [
        "python-alembic",
        "python-apscheduler",
        "python-django",
        "python-duckdb-weekly",
        "python-fastapi-postgres",
        "python-memory",
        "python-sqlite-fastapi",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_pages_name_what_there_is(name: str) -> None:
    folder = EXAMPLES / name
    page = (folder / "README.md").read_text()
    links = re.findall(r"\]\((?!http)([^)#]+)\)", page)
    assert links
    assert all((folder / link).exists() for link in links), links
    assert "pip install -r requirements.txt" in page
    assert "copal" in (folder / "requirements.txt").read_text().split()
    for script in re.findall(r"\./(\w+\.sh)", page):
        assert os.access(folder / script, os.X_OK), script


def test_they_are_typed(mypy_cache: str) -> None:
    """mypy --strict, one example after the other, since several have a module of the same name."""
    pytest.importorskip("mypy")
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("fastapi")
    pytest.importorskip("alembic")
    failed = []
    package = os.environ["PYTHONPATH"].split(os.pathsep)[0]
    for name in NAMES:
        folder = EXAMPLES / name
        files = [str(file) for file in sorted(folder.glob("**/*.py")) if "trial" not in file.parts]
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--explicit-package-bases", "--no-error-summary", *files],
            cwd=folder,
            env={
                **os.environ,
                "MYPYPATH": f"{folder}{os.pathsep}{package}",
                "MYPY_CACHE_DIR": mypy_cache,
            },
            capture_output=True,
            text=True,
        )
        if done.returncode:
            failed.append(f"{name}:\n{done.stdout}{done.stderr}")
    assert not failed, "\n".join(failed)


def test_copal_inside_frameworks_is_typed(mypy_cache: str) -> None:
    pytest.importorskip("mypy")
    pytest.importorskip("fastapi")
    package = os.environ["PYTHONPATH"].split(os.pathsep)[0]
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "-p",
        "copal.jobs",
        "-p",
        "copal.contrib",
    ]
    environment = {**os.environ, "MYPYPATH": package, "MYPY_CACHE_DIR": mypy_cache}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_alembic_example(tmp_path: Path) -> None:
    pytest.importorskip("alembic")
    done = run(example("python-alembic", tmp_path), "./run.sh")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == [
        "(1, 'Middlemarch', None)",
        "(2, 'Moby-Dick', None)",
        "(3, 'Malone Dies', None)",
    ]


def test_django_example(tmp_path: Path) -> None:
    pytest.importorskip("django")
    done = run(example("python-django", tmp_path), "./run.sh")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == ["(1, 'buy milk')", "(2, 'call home')", "(3, 'make backups')"]


def test_memory_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(copal, "BackupManager"):
        pytest.skip("SKIPPED: this build has no BackupManager")
    folder = example("python-memory", tmp_path)
    for count, user in enumerate(("ada", "grace", "ada"), 1):
        done = run(folder, "python3", "sessions.py", user)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{count} sessions")
    monkeypatch.syspath_prepend(str(folder))
    from sessions import Sessions

    with Sessions(str(folder / "backups")) as sessions:
        token = sessions.log_in("joan")
    before = sessions.backups.last_success
    assert before is not None
    time.sleep(1.1)
    with Sessions(str(folder / "backups")) as sessions:
        assert (sessions.count(), sessions.user(token)) == (4, "joan")
        sessions.log_in("mary")
    assert Sessions(str(folder / "backups"), at=before).count() == 4
    assert Sessions(str(folder / "backups")).count() == 5


def test_what_the_sqlite_page_says_about_going_back(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    folder = example("python-sqlite-fastapi", tmp_path)
    code = (
        "import os, copal, main\n"
        "copal.init('backups', passphrase=os.environ['COPAL_PASSPHRASE'])\n"
        "with main.connect() as connection:\n"
        "    connection.execute(\"INSERT INTO entries (text, cents) VALUES ('tea', 250)\")\n"
        "copal.backup('ledger.db', repository='backups', name='ledger')\n"
        "os.remove('ledger.db')\n"
    )
    secret = {"COPAL_PASSPHRASE": "only for a trial"}
    done = run(folder, "python3", "-c", code, **secret)
    assert done.returncode == 0, done.stderr
    (line,) = [line.strip() for line in (folder / "README.md").read_text().splitlines() if "copal.restore" in line]
    done = run(folder, "sh", "-c", line)
    assert done.returncode == 0, done.stderr
    done = run(folder, "sh", "-c", "python3 -c 'import main; print(main.balance())'", **secret)
    assert done.stdout == "{'cents': 0}\n", done.stderr
