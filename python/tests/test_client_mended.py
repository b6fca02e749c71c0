"""What was found to stay behind of a call that was refused: a copy of the database, a password in the log."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import copal
import copal.aio
from copal.contrib.apscheduler import backup_job


def test_a_backup_that_is_refused_leaves_no_copy(
    repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiosqlite")
    sqlalchemy = pytest.importorskip("sqlalchemy")
    from sqlalchemy.ext.asyncio import create_async_engine

    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))

    async def work() -> None:
        engine = create_async_engine("sqlite+aiosqlite:///:memory:")
        try:
            async with engine.begin() as connection:
                await connection.execute(sqlalchemy.text("CREATE TABLE secret (x)"))
            client = copal.aio.Copal(repository)
            with pytest.raises(copal.UsageError, match="needs a name"):
                await client.backup(engine)
            assert not list(copies.iterdir())
            assert (await client.backup(engine, name="app")).database == "app"
            assert not list(copies.iterdir())
        finally:
            await engine.dispose()

    asyncio.run(work())


@pytest.mark.parametrize("name", [None, "shop"])
def test_the_log_of_a_job_has_no_password(
    name: Any, repository: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def busy(*_: object) -> None:
        raise copal.BusyError("another process makes a backup")

    monkeypatch.setattr(copal.Copal, "_run", busy)
    caplog.set_level(logging.INFO)
    url = "postgres://me:hunter2@db.example/orders"
    assert backup_job(url, repository=repository, name=name, unless_newer_than=timedelta(hours=1)) is None
    assert "hunter2" not in caplog.text
    assert f"{name or 'orders'}: somebody else makes a backup" in caplog.text
