"""`manage.py migrate_safely`."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest
from services import example

import copal

pytest.importorskip("django")

NOTES = ["buy milk", "call home", "make backups"]


def manage(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-B", "manage.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def notes(folder: Path) -> List[str]:
    connection = sqlite3.connect(folder / "notes.db")
    try:
        return [text for (text,) in connection.execute("SELECT text FROM notes_note ORDER BY id")]
    finally:
        connection.close()


def test_a_migration_that_fails_is_put_back(tmp_path: Path) -> None:
    folder = example("python-django", tmp_path)
    first = manage(folder, "migrate_safely", "notes", "0001")
    assert first.returncode == 0, first.stderr
    assert notes(folder) == NOTES
    failed = manage(folder, "migrate_safely")
    assert failed.returncode != 0
    assert "this migration has a mistake" in failed.stderr
    assert "as before" in failed.stderr
    assert notes(folder) == NOTES
    assert len(copal.list_snapshots(folder / "notes.db")) == 1
    # Without the net it would have lost one.
    assert manage(folder, "migrate").returncode != 0
    assert notes(folder) == NOTES[1:]


def test_nothing_is_copied_if_there_is_nothing_to_do(tmp_path: Path) -> None:
    folder = example("python-django", tmp_path)
    (folder / "notes" / "migrations" / "0002_shorter.py").unlink()
    assert manage(folder, "migrate_safely").returncode == 0
    for arguments in ((), ("--check",)):
        done = manage(folder, "migrate_safely", *arguments)
        assert done.returncode == 0, done.stderr
    # That of the first time, when everything was to do.
    assert len(copal.list_snapshots(folder / "notes.db")) == 1


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({"ENGINE": "django.db.backends.sqlite3", "NAME": Path("/srv/a b.db")}, "sqlite:/srv/a b.db"),
        (
            {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "my shop",
                "USER": "me",
                "PASSWORD": "p@ss/w:rd",
                "HOST": "::1",
                "PORT": 5433,
                "OPTIONS": {"sslmode": "require", "pool": True},
            },
            "postgres://me:p%40ss%2Fw%3Ard@[::1]:5433/my%20shop?sslmode=require",
        ),
        (
            {"ENGINE": "django.contrib.gis.db.backends.postgis", "NAME": "geo", "HOST": "/run/postgresql"},
            "postgres:///geo?host=%2Frun%2Fpostgresql",
        ),
        ({"ENGINE": "django.db.backends.mysql", "NAME": "shop", "USER": "me"}, "mysql://me@localhost/shop"),
    ],
)
def test_urls(settings: Dict[str, Any], url: str) -> None:
    from copal.contrib.django.databases import database_url

    assert database_url(settings) == url


@pytest.mark.parametrize(
    "settings", [{"ENGINE": "django.db.backends.oracle", "NAME": "x"}, {"ENGINE": "a.sqlite3", "NAME": ":memory:"}]
)
def test_what_has_no_engine(settings: Dict[str, Any]) -> None:
    from copal.contrib.django.databases import database_url

    with pytest.raises(copal.UnsupportedError):
        database_url(settings)
