"""A server that cannot be reached is asked again, later each time; wrong data is not."""

import errno
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from deltalake.exceptions import DeltaError

from features.errors import TableError, TrackingError
from models.interest.config import InterestModelError
from pipelines import retries as failures
from pipelines.lake import Lake


def asset(*raised: Exception | None) -> tuple[dg.AssetsDefinition, list[int]]:
    """An asset that raises what is given, a try each, and the tries it was given."""
    tries: list[int] = []

    @dg.asset
    @failures.steady
    def table(context: dg.AssetExecutionContext) -> None:
        tries.append(context.retry_number)
        error = raised[context.retry_number]
        if error:
            raise error

    return table, tries


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "pause", lambda _: 0.0)


def test_a_server_that_comes_back_costs_two_tries() -> None:
    table, tries = asset(TrackingError("away"), ConnectionResetError("away"), None)
    assert dg.materialize([table]).success
    assert tries == [0, 1, 2]


@pytest.mark.parametrize("kind", [TableError, InterestModelError])
def test_wrong_data_is_tried_once_and_said_in_its_own_words(kind: type[Exception]) -> None:
    table, tries = asset(kind("no column title: mend [items]"), None)
    result = dg.materialize([table], raise_on_error=False)
    assert not result.success
    assert tries == [0]
    data = result.failure_data_for_node("table")
    assert data is not None
    assert data.user_failure_data is not None
    assert data.user_failure_data.description == "no column title: mend [items]"


def test_a_defect_is_not_tried_again() -> None:
    table, tries = asset(ZeroDivisionError(), None)
    assert not dg.materialize([table], raise_on_error=False).success
    assert tries == [0]


class Answers(BaseHTTPRequestHandler):
    """A store that answers everything with one status."""

    status = 503

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_PUT = do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize(("status", "tried_again"), [(None, True), (503, True), (429, True), (403, False)])
def test_an_object_store_that_is_away_is_asked_again_and_one_that_refuses_is_not(
    monkeypatch: pytest.MonkeyPatch, status: int | None, tried_again: bool
) -> None:
    monkeypatch.setattr(Answers, "status", status)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
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

    assert failures.transient(caught.value) is tried_again
    server.server_close()


def test_a_commit_to_a_store_that_went_away_is_tried_again() -> None:
    away = DeltaError("Error interacting with object store: Generic S3 error: error sending request")
    table, tries = asset(away, None)
    assert dg.materialize([table]).success
    assert tries == [0, 1]


def test_files_that_are_missing_or_a_disk_that_is_full_are_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        pl.read_parquet(tmp_path / "none.parquet")
    full = OSError(errno.ENOSPC, "No space left on device")

    assert not failures.transient(missing.value)
    assert not failures.transient(full)


def test_what_boto_says_of_a_store_that_is_away_is_tried_again() -> None:
    exceptions = pytest.importorskip("botocore.exceptions", reason="the extra [s3] is not installed")

    def answered(status: int) -> Exception:
        return exceptions.ClientError({"ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")

    assert failures.transient(exceptions.EndpointConnectionError(endpoint_url="http://store"))
    assert failures.transient(exceptions.ReadTimeoutError(endpoint_url="http://store"))
    assert failures.transient(answered(503))
    assert not failures.transient(answered(403))


def test_a_body_of_several_tables_is_steady_too() -> None:
    tries = []

    @dg.multi_asset(specs=[dg.AssetSpec("one"), dg.AssetSpec("other")])
    @failures.steady
    def both(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        tries.append(context.retry_number)
        if not context.retry_number:
            raise TrackingError("away")
        yield dg.MaterializeResult("one")
        yield dg.MaterializeResult("other")

    assert dg.materialize([both]).success
    assert tries == [0, 1]


def test_pauses_double_up_to_a_limit_and_are_never_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pauses = [failures.pause(tries) for tries in range(20)]
    for tries, seconds in enumerate(pauses):
        longest = min(failures.LONGEST_PAUSE_SECONDS, failures.FIRST_PAUSE_SECONDS * 2**tries)
        assert longest / 2 <= seconds <= longest
    assert len(set(pauses)) == len(pauses)
