"""Scheduled backups and their status in FastAPI.

    from copal.contrib.fastapi import lifespan, router
    from copal.jobs import Job

    app = FastAPI(lifespan=lifespan([Job("app.db", "0 3 * * *", keep={"within": "5d"})], repository="/srv/backups"))
    app.include_router(router(dependencies=[Depends(only_admins)]))

Without jobs those of ``copal.toml`` are run. An application that has a lifespan already gives it as ``wrap=``. With
several workers (``uvicorn --workers 4``) each has a scheduler, and one of them makes each backup.
"""

# No postponed annotations: FastAPI reads them.
from typing import Any, Optional, Sequence

from fastapi import APIRouter, Request, params
from starlette.responses import JSONResponse

from ..jobs import Scheduler
from .starlette import answered, backups_of, lifespan, start, status_of

__all__ = ["lifespan", "router"]


def router(
    scheduler: Optional[Scheduler] = None,
    *,
    prefix: str = "/backups",
    dependencies: Optional[Sequence[params.Depends]] = None,
    **options: Any,
) -> APIRouter:
    """``GET /backups/status``, ``GET /backups`` and ``POST /backups/{name}/run``.

    It asks nobody who he is: ``dependencies`` is where you say who may (``[Depends(only_admins)]``). Without
    ``scheduler`` the one of :func:`lifespan` is used. ``options`` go to ``fastapi.APIRouter``.
    """
    made = APIRouter(prefix=prefix, dependencies=dependencies, **{"tags": ["backups"], **options})

    @made.get("/status", summary="Whether everything is protected")
    async def backups_status(request: Request) -> JSONResponse:
        return await answered(request, scheduler, status_of)

    @made.get("", summary="The backups there are")
    async def backups(request: Request, name: Optional[str] = None) -> JSONResponse:
        return await answered(request, scheduler, backups_of, name)

    @made.post("/{name}/run", summary="Start a backup now", status_code=202)
    async def backups_run(request: Request, name: str) -> JSONResponse:
        return await answered(request, scheduler, start, name, code=202)

    return made
