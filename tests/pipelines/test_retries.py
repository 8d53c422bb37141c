"""An unreachable server is retried with growing pauses; wrong data is not."""

import errno
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from deltalake.exceptions import DeltaError

from features.errors import TableError, TrackingError
from models.interest.config import InterestModelError
from pipelines import retries
from pipelines.lake import Lake


def asset(*raised: Exception | None) -> tuple[dg.AssetsDefinition, list[int]]:
    """An asset that raises the given errors, one per try, and the list of its tries."""
    tries: list[int] = []

    @dg.asset
    def table(context: dg.AssetExecutionContext) -> None:
        tries.append(context.retry_number)
        error = raised[context.retry_number]
        with retries.with_retries(context.retry_number):
            if error:
                raise error

    return table, tries


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "pause", lambda _: 0.0)


def test_a_server_that_comes_back_costs_two_tries() -> None:
    table, tries = asset(TrackingError("away"), ConnectionResetError("away"), None)
    assert dg.materialize([table]).success
    assert tries == [0, 1, 2]


@pytest.mark.parametrize("kind", [TableError, InterestModelError])
def test_wrong_data_is_tried_once_and_shows_its_message(kind: type[Exception]) -> None:
    table, tries = asset(kind("no column title: set [items]"), None)
    result = dg.materialize([table], raise_on_error=False)
    assert not result.success
    assert tries == [0]
    data = result.failure_data_for_node("table")
    assert data is not None
    assert data.user_failure_data is not None
    assert data.user_failure_data.description == "no column title: set [items]"


def test_a_bug_is_not_retried() -> None:
    table, tries = asset(ZeroDivisionError(), None)
    assert not dg.materialize([table], raise_on_error=False).success
    assert tries == [0]


class Handler(BaseHTTPRequestHandler):
    """A store that responds to everything with one status."""

    status = 503

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_PUT = do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize(("status", "retried"), [(None, True), (503, True), (429, True), (403, False)])
def test_an_unreachable_object_store_is_retried_and_a_refusal_is_not(
    monkeypatch: pytest.MonkeyPatch, status: int | None, retried: bool
) -> None:
    monkeypatch.setattr(Handler, "status", status)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if status:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    else:
        server.server_close()  # refuses connections
    options = {
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
        "aws_region": "eu-central-1",
        "aws_endpoint_url": f"http://127.0.0.1:{server.server_port}",
        "aws_allow_http": "true",
        "max_retries": "0",
    }

    with pytest.raises(OSError, match="http") as caught:
        Lake("s3://bucket/lake", options).slices("table")

    assert retries.transient(caught.value) is retried
    server.server_close()


def test_a_commit_to_an_unreachable_store_is_retried() -> None:
    away = DeltaError("Error interacting with object store: Generic S3 error: error sending request")
    table, tries = asset(away, None)
    assert dg.materialize([table]).success
    assert tries == [0, 1]


def test_missing_files_and_full_disks_are_not_retried(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        pl.read_parquet(tmp_path / "none.parquet")
    full = OSError(errno.ENOSPC, "No space left on device")

    assert not retries.transient(missing.value)
    assert not retries.transient(full)


def test_boto_errors_of_an_unreachable_store_are_retried() -> None:
    exceptions = pytest.importorskip("botocore.exceptions", reason="the extra [s3] is not installed")

    def responded(status: int) -> Exception:
        return exceptions.ClientError({"ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")

    assert retries.transient(exceptions.EndpointConnectionError(endpoint_url="http://store"))
    assert retries.transient(exceptions.ReadTimeoutError(endpoint_url="http://store"))
    assert retries.transient(responded(503))
    assert not retries.transient(responded(403))


def test_pauses_double_up_to_a_limit_and_are_never_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pauses = [retries.pause(tries) for tries in range(20)]
    for tries, seconds in enumerate(pauses):
        longest = min(retries.LONGEST_PAUSE_SECONDS, retries.FIRST_PAUSE_SECONDS * 2**tries)
        assert longest / 2 <= seconds <= longest
    assert len(set(pauses)) == len(pauses)
