"""The HTTP server and its routes. One thread ranks; a bounded number of requests waits for it."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import uvicorn
from fastapi import FastAPI, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse

from features.errors import ProjectError
from pipelines.deployment import Deployment
from pipelines.service.access import Access, Metrics, Tokens
from pipelines.service.event_intake import Overloaded, Refused
from pipelines.service.service import NotReady, Service
from pipelines.service.wire import Events, Id, RankRequest

_log = logging.getLogger(__name__)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_PAGE = Path(__file__).with_name("page.html")
Found = TypeVar("Found")
Count = Annotated[int, Query(ge=1, le=100)]
UserId = Annotated[str, PathParameter(min_length=1, max_length=512)]


class _Line:
    """The ranking thread, and the number of requests that wait for it."""

    def __init__(self, longest: int) -> None:
        self._thread = ThreadPoolExecutor(1, "rank")
        self._longest, self.waiting = longest, 0

    async def run(self, function: Callable[..., Found], *arguments: Any) -> Found:
        """Call a function in the ranking thread. Raises Overloaded if too many requests wait."""
        if self.waiting >= self._longest:
            raise Overloaded
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        finally:
            self.waiting -= 1


def run(deployment: Deployment, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Serve a deployment. If `MOMENTRANK_READ_TOKEN` and `MOMENTRANK_WRITE_TOKEN` are set, callers need them.

    Raises ProjectError if other machines can reach `host` and a token is missing.
    """
    tokens = Tokens(os.environ.get("MOMENTRANK_READ_TOKEN", ""), os.environ.get("MOMENTRANK_WRITE_TOKEN", ""))
    if host not in _LOOPBACK and not (tokens.read and tokens.write):
        raise ProjectError(
            f"--host {host} lets other machines read what users did without a token: set "
            "MOMENTRANK_READ_TOKEN and MOMENTRANK_WRITE_TOKEN"
        )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    tell(f"http://{host}:{port} (try it), /docs (routes), /health; Ctrl-C stops")
    # No access log: its paths hold user ids.
    uvicorn.run(
        create_app(Service(deployment), tokens), host=host, port=port, access_log=False, log_level="warning",
        timeout_keep_alive=30, timeout_graceful_shutdown=10,
    )  # fmt: skip


def create_app(service: Service, tokens: Tokens | None = None) -> FastAPI:
    """The application. It starts the service in the background, and closes it."""
    metrics, line = Metrics(), _Line(service.limits.waiting_ranks)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.create_task(asyncio.to_thread(_start, service))
        yield
        await starting
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="MomentRank",
        description="Live ranking of one deployment.",
        version="1",
        lifespan=lifespan,
        redoc_url=None,
    )
    limits = service.limits
    app.add_middleware(
        Access, tokens=tokens or Tokens(), body_bytes=limits.body_bytes, body_seconds=limits.body_seconds,
        metrics=metrics,
    )  # fmt: skip
    _handle_errors(app)

    @app.post("/rank")
    async def rank(request: RankRequest) -> JSONResponse:
        """Rank candidates, or items of the pool, for a user. Report what was shown under `impression_id`."""
        return JSONResponse(await line.run(service.rank, request))

    @app.post("/events")
    async def events(body: Events) -> dict[str, int]:
        """Accept items, impressions and interactions: 200 means they are on disk, and the next `/rank` knows them."""
        receipt = await asyncio.wrap_future(service.accept(body))
        return receipt._asdict()

    @app.get("/items/trending")
    async def trending(
        attribute: str | None = None, value: str | None = None, count: Count = 10
    ) -> JSONResponse:
        """Items with the most decayed clicks; with `attribute`, only those that have it (with `value`, that value)."""
        return JSONResponse(await line.run(service.trending, attribute, value, count))

    @app.get("/items/{item_id}/similar")
    async def similar(item_id: Id, count: Count = 10) -> JSONResponse:
        """Items similar in text, and items clicked by the same users."""
        return JSONResponse(await line.run(service.similar, item_id, count))

    @app.get("/users")
    async def users() -> list[str]:
        """Some users with many clicks, for the page; none if ids are pseudonyms."""
        return [] if service.deployment.privacy.pseudonyms else service.resident.users[:20]

    @app.get("/users/{user_id}")
    async def about(user_id: UserId) -> JSONResponse:
        """A user's newest moments and most clicked attribute values."""
        return JSONResponse(await line.run(service.about, user_id))

    @app.delete("/users/{user_id}")
    async def forget(user_id: UserId) -> dict[str, str]:
        """Leave a user out of memory, of restarts and of new slices. `momentrank forget` erases tables and logs."""
        await asyncio.to_thread(service.forget, user_id)
        return {"status": "left out from now on; `momentrank forget` erases tables and logs"}

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Versions that serve, and problems."""
        return service.health()

    @app.get("/ready")
    async def ready(response: Response) -> dict[str, bool]:
        """200 once requests are answered, 503 before that."""
        response.status_code = 200 if service.ready else 503
        return {"ready": service.ready}

    @app.get("/metrics")
    async def prometheus() -> PlainTextResponse:
        """Counters and latencies in Prometheus' format."""
        gauges = {"ready": float(service.ready), "waiting_ranks": float(line.waiting)}
        if service.ready:
            gauges["state_entries"] = float(service.resident.live.entries())
        return PlainTextResponse(metrics.text(gauges))

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(_PAGE.read_text(encoding="utf-8"))

    return app


def _start(service: Service) -> None:
    try:
        service.start()
    except Exception as error:  # /health reports it
        service.problem = f"{type(error).__name__}: {error}"


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _errors(422, [(_field(one["loc"][1:]), one["msg"]) for one in error.errors()])

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return _errors(422, [(error.field, error.problem)])

    @app.exception_handler(Overloaded)
    async def overloaded(_: Request, __: Overloaded) -> JSONResponse:
        return _errors(
            429, [("", "too many requests are waiting: try again in a second")], {"Retry-After": "1"}
        )

    @app.exception_handler(NotReady)
    async def not_ready(_: Request, __: NotReady) -> JSONResponse:
        return _errors(503, [("", "the state and the models are still loading")], {"Retry-After": "2"})

    @app.exception_handler(OSError)
    async def not_written(_: Request, error: OSError) -> JSONResponse:
        return _errors(
            503, [("", f"the journal cannot be written, so the events were not accepted: {error}")]
        )

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        _log.error("a request failed", exc_info=error)
        return _errors(500, [("", "an error of the service: its log has the details")])


def _field(path: tuple[str | int, ...]) -> str:
    """`0.item` for `(0, "interaction", "item")`: the event itself names its kind."""
    if path and isinstance(path[0], int):
        path = (path[0], *path[2:])
    return ".".join(map(str, path))


def _errors(
    status: int, problems: list[tuple[str, str]], headers: dict[str, str] | None = None
) -> JSONResponse:
    content = {"errors": [{"field": field, "problem": problem} for field, problem in problems]}
    return JSONResponse(content, status, headers)
