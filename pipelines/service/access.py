"""Around every route: bearer tokens, size and duration of a request, and counters in Prometheus' format."""

import asyncio
import hmac
import json
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[Message]]
_Send = Callable[[Message], Awaitable[None]]
_App = Callable[[Message, _Receive, _Send], Awaitable[None]]
_OPEN = ("/health", "/ready", "/", "/docs", "/openapi.json")
"""Routes that need no token: they show no data."""
_ROUTES = ("rank", "events", "items", "users", "health", "ready", "metrics", "docs")
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


@dataclass(frozen=True)
class Tokens:
    """Bearer tokens; an empty one is not required."""

    read: str = ""
    """For routes that change nothing."""
    write: str = ""
    """For `POST /events` and `DELETE /users/…`; also accepted for reading."""

    def allow(self, method: str, path: str, header: str) -> bool:
        """Whether an `Authorization` header opens a route."""
        if path in _OPEN:
            return True
        writes = path == "/events" or method == "DELETE"
        needed = [self.write] if writes else [self.read, self.write] if self.read else [""]
        if not any(needed):
            return True
        given = header.removeprefix("Bearer ").encode()
        # Every one is compared, in constant time.
        return sum(bool(token) and hmac.compare_digest(given, token.encode()) for token in needed) > 0


class Metrics:
    """Requests by route and status, and their durations. Only the event loop's thread uses it."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets: Counter[tuple[str, float]] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Add a request."""
        self._requests[route, status] += 1
        self._seconds[route] += seconds
        for bound in _BOUNDS:
            if seconds <= bound:
                self._buckets[route, bound] += 1

    def text(self, gauges: dict[str, float]) -> str:
        """All metrics; `gauges`: name → value."""
        lines = ["# TYPE momentrank_requests_total counter"]
        totals: Counter[str] = Counter()
        for (route, status), count in sorted(self._requests.items()):
            totals[route] += count
            lines.append(f'momentrank_requests_total{{route="{route}",status="{status}"}} {count}')
        lines.append("# TYPE momentrank_request_seconds histogram")
        for route, total in sorted(totals.items()):
            for bound in _BOUNDS:
                count = self._buckets[route, bound]
                lines.append(f'momentrank_request_seconds_bucket{{route="{route}",le="{bound}"}} {count}')
            lines.append(f'momentrank_request_seconds_bucket{{route="{route}",le="+Inf"}} {total}')
            lines.append(f'momentrank_request_seconds_sum{{route="{route}"}} {self._seconds[route]:.6f}')
            lines.append(f'momentrank_request_seconds_count{{route="{route}"}} {total}')
        for name, value in gauges.items():
            lines += [f"# TYPE momentrank_{name} gauge", f"momentrank_{name} {value}"]
        return "\n".join(lines) + "\n"


class Access:
    """ASGI middleware around the application."""

    def __init__(
        self, app: _App, tokens: Tokens, body_bytes: int, body_seconds: float, metrics: Metrics
    ) -> None:
        self._app, self._tokens, self._metrics = app, tokens, metrics
        self._bytes, self._seconds = body_bytes, body_seconds

    async def __call__(self, scope: Message, receive: _Receive, send: _Send) -> None:
        """Answer 401, 408 or 413, or pass the request on with its complete body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._answer(scope, receive, noting)
        finally:
            first = scope["path"].strip("/").split("/")[0]
            route = first if first in _ROUTES else "page" if not first else "other"
            self._metrics.observe(route, status, time.perf_counter() - began)

    async def _answer(self, scope: Message, receive: _Receive, send: _Send) -> None:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if not self._tokens.allow(scope["method"], scope["path"], headers.get(b"authorization", "")):
            await _refuse(send, 401, "a bearer token is needed: send `Authorization: Bearer TOKEN`")
            return
        try:
            body = await asyncio.wait_for(self._body(headers, receive), self._seconds)
        except TimeoutError:
            await _refuse(send, 408, f"the request did not arrive within {self._seconds:g} s")
            return
        if body is None:
            await _refuse(send, 413, f"the request is larger than {self._bytes:,} bytes: send it in parts")
            return
        sent = False

        async def whole() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, whole, send)

    async def _body(self, headers: dict[bytes, str], receive: _Receive) -> bytes | None:
        declared = headers.get(b"content-length", "0")
        if declared.isdigit() and int(declared) > self._bytes:
            return None
        body = b""
        while True:
            message = await receive()
            body += bytes(message.get("body", b""))
            if len(body) > self._bytes:
                return None
            if not message.get("more_body", False):
                return body


async def _refuse(send: _Send, status: int, problem: str) -> None:
    content = json.dumps({"errors": [{"field": "", "problem": problem}]}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
