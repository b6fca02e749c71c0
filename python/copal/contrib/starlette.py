"""Scheduled backups and their status in Starlette, and in whatever is built on it (:mod:`copal.contrib.fastapi`).

    from copal.contrib.starlette import lifespan, routes
    from copal.jobs import Job

    app = Starlette(
        lifespan=lifespan([Job("app.db", "@daily", keep={"last": 7})]),
        routes=[Mount("/backups", routes=routes(), middleware=[Middleware(OnlyAdmins)])],
    )

With several workers (``uvicorn --workers 4``) each has a scheduler, and one of them makes each backup.
"""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from typing import (
    TYPE_CHECKING,
    Any,
    AsyncContextManager,
    AsyncIterator,
    Callable,
    Dict,
    Iterable,
    List,
    Optional,
    Union,
)

from anyio import CancelScope, to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


from ..errors import CopalError, NotFoundError, UsageError
from ..jobs import Job, Scheduler
from .._values import format_time

if TYPE_CHECKING:
    from ..results import Backup

#: The status is asked of the repository at most so often, in seconds; what this machine does is always known.
FRESH = 30.0

#: What FastAPI and Starlette take as ``lifespan=``.
Lifespan = Callable[[Any], AsyncContextManager[Any]]


def lifespan(
    jobs: Optional[Iterable[Job]] = None,
    *,
    config: "Union[str, os.PathLike[str], None]" = None,
    scheduler: Optional[Scheduler] = None,
    wrap: Optional[Lifespan] = None,
    **options: Any,
) -> Lifespan:
    """A lifespan that runs jobs as long as the application does: those given, else those of the configuration.

    ``wrap`` is the application's own lifespan: it starts before the jobs and ends after them, and what it yields is the
    application's state. ``options`` go to :class:`copal.jobs.Scheduler`; or give a ``scheduler`` that you have made.

    The scheduler is ``app.state.copal``. What is wrong with the jobs or the configuration fails the start of the
    application.
    """
    if scheduler is not None and (jobs is not None or config is not None or options):
        raise UsageError("the lifespan was given a scheduler and what to make one of")
    made_of = None if jobs is None else tuple(jobs)

    @asynccontextmanager
    async def run(app: Any) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            state = None if wrap is None else await stack.enter_async_context(wrap(app))
            # One for each start, since an application may be started again, as tests do.
            own = scheduler or Scheduler(made_of, config=config, **options)
            app.state.copal = own
            own.start()
            try:
                yield state
            finally:
                # Not cancelled with the application: what is under way has to end well.
                with CancelScope(shield=True):
                    await to_thread.run_sync(own.stop)

    return run


def routes(scheduler: Optional[Scheduler] = None) -> List[Route]:
    """``GET /status``, ``GET /`` (all backups) and ``POST /{name}/run``, to be mounted where you want them.

    They ask nobody who he is: put them behind your own middleware. Without ``scheduler`` they use that of
    :func:`lifespan`.
    """

    async def status(request: Request) -> JSONResponse:
        return await answered(request, scheduler, status_of)

    async def backups(request: Request) -> JSONResponse:
        return await answered(request, scheduler, backups_of, request.query_params.get("name"))

    async def run(request: Request) -> JSONResponse:
        return await answered(request, scheduler, start, request.path_params["name"], code=202)

    return [
        Route("/status", status, methods=["GET"], name="backups-status"),
        Route("/", backups, methods=["GET"], name="backups"),
        Route("/{name}/run", run, methods=["POST"], name="backups-run"),
    ]


def _found(request: Request, scheduler: Optional[Scheduler]) -> Scheduler:
    """The scheduler given, else the application's."""
    found = scheduler or getattr(request.app.state, "copal", None)
    if not isinstance(found, Scheduler):
        raise UsageError(
            "the application has no scheduler", hint="give it lifespan=copal.contrib.fastapi.lifespan(...)"
        )
    return found


async def answered(
    request: Request,
    scheduler: Optional[Scheduler],
    act: Callable[..., Dict[str, Any]],
    *arguments: Any,
    code: int = 200,
) -> JSONResponse:
    """Does it on a thread; errors are JSON as on the command line."""
    try:
        return JSONResponse(await to_thread.run_sync(act, _found(request, scheduler), *arguments), code)
    except CopalError as error:
        status = 404 if isinstance(error, NotFoundError) else 409 if isinstance(error, UsageError) else 503
        return JSONResponse({"error": error.to_dict()}, status)


def status_of(scheduler: Scheduler) -> Dict[str, Any]:
    """Whether everything is protected, the last success, the next run and failures of each job."""
    return scheduler.status(look_after=FRESH).as_dict()


def backups_of(scheduler: Scheduler, name: Optional[str]) -> Dict[str, Any]:
    """The backups of one job, or of all, by job and oldest first."""
    return {"backups": {job: [_plain(backup) for backup in made] for job, made in scheduler.backups(name).items()}}


def start(scheduler: Scheduler, name: str) -> Dict[str, Any]:
    """Starts a backup now."""
    scheduler.run_now(name)
    return {"name": name, "accepted": True}


def _plain(backup: "Backup") -> Dict[str, Any]:
    return {
        "database": backup.database,
        "id": backup.id,
        "time": format_time(backup.time),
        "engine": backup.engine,
        "label": backup.label,
        "pinned": backup.pinned,
        "verified": backup.verified,
        "logical_bytes": backup.logical_bytes,
        "added_bytes": backup.added_bytes,
        "stored_bytes": backup.stored_bytes,
    }
