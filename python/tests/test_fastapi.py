"""The lifespan and the router of FastAPI and Starlette, in this process."""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, AsyncIterator, Dict, List

import pytest
from conftest import wait_for

import copal
from copal.jobs import Job, Scheduler

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from fastapi import Depends, FastAPI, HTTPException, Request  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.routing import Mount  # noqa: E402

from copal.contrib import fastapi as for_fastapi  # noqa: E402
from copal.contrib import starlette as for_starlette  # noqa: E402


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    return path


def test_lifespan_and_router(database: Path, repository: str) -> None:
    happened: List[str] = []

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[Dict[str, Any]]:
        happened.append("begin")
        yield {"answer": 42}
        happened.append("end, with the scheduler " + ("running" if app.state.copal.running else "stopped"))

    def only_admins(request: Request) -> None:
        if request.headers.get("x-admin") != "yes":
            raise HTTPException(403)

    jobs = [Job(database, "@daily", keep={"last": 2}, name="app")]
    app = FastAPI(lifespan=for_fastapi.lifespan(jobs, repository=repository, wrap=own))
    app.include_router(for_fastapi.router(dependencies=[Depends(only_admins)]))

    @app.get("/answer")
    async def answer(request: Request) -> int:
        return int(request.state.answer)

    admin = {"x-admin": "yes"}
    # Twice, as tests start one application often.
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/answer").json() == 42
            assert client.get("/backups/status").status_code == 403
            wait_for(lambda: client.get("/backups/status", headers=admin).json()["protected"], "the first backup")
            (job,) = client.get("/backups/status", headers=admin).json()["jobs"]
            assert (job["name"], job["schedule"], job["problems"]) == ("app", "@daily", [])
            assert job["next_run"].endswith("Z")
            before = client.get("/backups", headers=admin).json()["backups"]["app"]
            assert client.post("/backups/app/run", headers=admin).json() == {"name": "app", "accepted": True}
            newest = before[-1]["id"]
            wait_for(
                lambda: client.get("/backups?name=app", headers=admin).json()["backups"]["app"][-1]["id"] > newest,
                "the backup that was asked for",
            )
            missing = client.post("/backups/other/run", headers=admin)
            assert (missing.status_code, missing.json()["error"]["kind"]) == (404, "not-found")
            assert client.get("/backups?name=other", headers=admin).status_code == 404
    assert happened == ["begin", "end, with the scheduler stopped"] * 2
    assert len(copal.list_backups("app", repository=repository)) == 2


def test_starlette(database: Path, repository: str) -> None:
    scheduler = Scheduler([Job(database, "@daily", name="app")], repository=repository)
    app = Starlette(
        lifespan=for_starlette.lifespan(scheduler=scheduler), routes=[Mount("/b", routes=for_starlette.routes())]
    )
    with TestClient(app) as client:
        wait_for(lambda: client.get("/b/status").json()["protected"], "the first backup")
        assert len(client.get("/b/").json()["backups"]["app"]) == 1
        assert client.post("/b/app/run").status_code == 202
    assert not scheduler.running


def test_a_repository_that_fails_stands_in_the_status_and_harms_nobody(database: Path, tmp_path: Path) -> None:
    app = FastAPI(lifespan=for_fastapi.lifespan([Job(database, "@daily", name="app")], repository=tmp_path / "none"))
    app.include_router(for_fastapi.router())
    with TestClient(app) as client:
        wait_for(lambda: client.get("/backups/status").json()["jobs"][0]["consecutive_failures"], "a failure")
        status = client.get("/backups/status")
        assert status.status_code == 200
        (job,) = status.json()["jobs"]
        assert not status.json()["protected"]
        assert job["last_failure"]["kind"] == "not-found"
        assert any(str(tmp_path / "none") in problem for problem in job["problems"])
        # It is made, and the next retry finds it.
        copal.init(tmp_path / "none", encrypt=False)
        assert client.post("/backups/app/run").status_code == 202
        wait_for(lambda: client.get("/backups/status").json()["protected"], "a backup")
        assert client.get("/backups/status").json()["jobs"][0]["consecutive_failures"] == 0


def test_mistakes_fail_the_start(tmp_path: Path) -> None:
    app = FastAPI(lifespan=for_fastapi.lifespan(config=tmp_path / "missing.toml"))
    with pytest.raises(copal.ConfigurationError, match=r"missing\.toml"):
        with TestClient(app):
            pass
    with pytest.raises(copal.UsageError):
        for_fastapi.lifespan([], scheduler=Scheduler([Job("a.db", "@daily")]))
    without = FastAPI()
    without.include_router(for_fastapi.router())
    with TestClient(without) as client:
        answer = client.get("/backups/status")
        assert (answer.status_code, answer.json()["error"]["message"]) == (409, "the application has no scheduler")
