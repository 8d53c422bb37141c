"""What the service answers before, beside and instead of a ranking."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from pipelines.service.access import Tokens
from pipelines.service.app import create_app
from pipelines.service.event_intake import Overloaded, Receipt, Refused
from pipelines.service.service import Limits, NotReady


class Stub:
    """A service that answers at once, or when it is let go."""

    def __init__(self, **limits: Any) -> None:
        self.limits, self.ready, self.problem = Limits(**limits), True, ""
        self.deployment = SimpleNamespace(privacy=SimpleNamespace(pseudonyms=None))
        self.resident = SimpleNamespace(live=SimpleNamespace(entries=lambda: 3), users=["u"])
        self.go, self.error = threading.Event(), None
        self.go.set()

    def start(self) -> None: ...

    def close(self) -> None: ...

    def health(self) -> dict[str, Any]:
        return {"ready": self.ready}

    def rank(self, _: Any) -> dict[str, Any]:
        self.go.wait(10)
        if self.error:
            raise self.error
        return {"items": []}

    def accept(self, events: Any) -> Future[Receipt]:
        if self.error:
            raise self.error
        future: Future[Receipt] = Future()
        future.set_result(Receipt(len(events), 0))
        return future


@pytest.fixture
def stub() -> Stub:
    return Stub(waiting_ranks=1, body_bytes=1_000)


@pytest.fixture
def client(stub: Stub) -> Iterator[TestClient]:
    with TestClient(create_app(stub)) as client:  # type: ignore[arg-type]
        yield client


CLICK = {"event": "interaction", "user": "u", "item": "a", "type": "click"}


def problems(answer: Any) -> list[tuple[str, str]]:
    return [(error["field"], error["problem"]) for error in answer.json()["errors"]]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/rank", {}, "user_id"),
        ("/rank", {"user_id": "u", "candidates": []}, "candidates"),
        ("/rank", {"user_id": "u", "candidates": ["a", "a"]}, "candidates"),
        ("/rank", {"user_id": "u", "at": "yesterday"}, "at"),
        ("/rank", {"user_id": "u", "users": "v"}, "users"),
        ("/events", [CLICK | {"type": ""}], "0.type"),
        ("/events", [CLICK, CLICK | {"timestamp": "soon"}], "1.timestamp"),
    ],
)
def test_a_request_that_is_wrong_is_answered_with_the_field(
    client: TestClient, path: str, body: Any, field: str
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 422
    assert field in [name for name, _ in problems(answer)]


def test_one_event_and_several_are_accepted(client: TestClient) -> None:
    assert client.post("/events", json=CLICK).json() == {"accepted": 1, "repeated": 0}
    assert client.post("/events", json=[CLICK, CLICK]).json() == {"accepted": 2, "repeated": 0}


def test_what_the_service_refuses_has_its_field(client: TestClient, stub: Stub) -> None:
    stub.error = Refused("0.item", "is not in the impression that ranking names")
    answer = client.post("/events", json=CLICK)
    assert (answer.status_code, problems(answer)) == (
        422,
        [("0.item", "is not in the impression that ranking names")],
    )


@pytest.mark.parametrize(
    ("error", "status"), [(NotReady(), 503), (Overloaded(), 429), (OSError("disk full"), 503)]
)
def test_faults_have_their_status(client: TestClient, stub: Stub, error: Exception, status: int) -> None:
    stub.error = error
    answer = client.post("/events", json=CLICK)
    assert answer.status_code == status
    assert ("Retry-After" in answer.headers) == (status == 429 or isinstance(error, NotReady))


def test_more_requests_than_may_wait_get_429_and_a_time_to_come_again(client: TestClient, stub: Stub) -> None:
    stub.go.clear()
    first: list[Any] = []
    waiting = threading.Thread(target=lambda: first.append(client.post("/rank", json={"user_id": "u"})))
    waiting.start()
    while "momentrank_waiting_ranks 1" not in client.get("/metrics").text:
        pass
    refused = client.post("/rank", json={"user_id": "u"})
    stub.go.set()
    waiting.join()

    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    assert first[0].status_code == 200


def test_a_service_that_is_not_ready_says_so(client: TestClient, stub: Stub) -> None:
    assert client.get("/ready").status_code == 200
    stub.ready = False
    assert client.get("/ready").status_code == 503
    assert client.get("/health").json() == {"ready": False}


def test_a_body_that_is_too_large_is_not_read(client: TestClient) -> None:
    assert client.post("/events", json=[CLICK] * 100).status_code == 413
    assert client.post("/events", content=(b"x" * 600 for _ in range(3))).status_code == 413


def test_a_client_that_sends_nothing_more_is_let_go() -> None:
    app = create_app(Stub(body_seconds=0.01))  # type: ignore[arg-type]
    sent: list[Any] = []

    async def hang() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/events", "headers": [], "query_string": b""}
    asyncio.run(app(scope, hang, send))

    assert sent[0]["status"] == 408


def test_tokens_open_what_they_are_for(stub: Stub) -> None:
    with TestClient(create_app(stub, Tokens("r" * 20, "w" * 20))) as client:  # type: ignore[arg-type]
        statuses = {
            token: (
                client.post("/rank", json={"user_id": "u"}, headers=headers).status_code,
                client.post("/events", json=CLICK, headers=headers).status_code,
            )
            for token, headers in (
                ("none", {}),
                ("read", {"Authorization": "Bearer " + "r" * 20}),
                ("write", {"Authorization": "Bearer " + "w" * 20}),
            )
        }
        assert statuses == {"none": (401, 401), "read": (200, 401), "write": (200, 200)}
        assert client.get("/health").status_code == 200
        assert client.get("/metrics").status_code == 401
