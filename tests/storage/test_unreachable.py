"""A wrong or unreachable database or bucket is reported in seconds, with its variable and no password."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from features.errors import ProjectError
from pipelines.settings import settings
from pipelines.settings import storage_check as storage
from pipelines.settings.settings import Settings

KEYS = {"AWS_ACCESS_KEY_ID": "a-key", "AWS_SECRET_ACCESS_KEY": "a-secret", "AWS_REGION": "eu-central-1"}
NOBODY = "127.0.0.1:9"
"""Refuses every connection."""


@pytest.fixture
def silent() -> Iterator[str]:
    """Yield the address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def loaded(home: Path, **variables: str) -> Settings:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOMENTRANK_HOME", str(home))
        for name, value in variables.items():
            patch.setenv(f"MOMENTRANK_{name}", value)
        return settings.load()


def refused(of: Settings) -> str:
    began = time.monotonic()
    with pytest.raises(ProjectError) as caught:
        storage.check(of)
    assert time.monotonic() - began < 15
    assert "secret" not in str(caught.value)
    return str(caught.value)


def bucket_at(home: Path, address: str, **options: str) -> Settings:
    given = KEYS | {"AWS_ENDPOINT_URL": f"http://{address}", "AWS_ALLOW_HTTP": "true"} | options
    return loaded(home, LAKE="s3://bucket/lake", STORAGE_OPTIONS=json.dumps(given))


def test_local_files_are_not_checked(tmp_path: Path) -> None:
    storage.check(loaded(tmp_path))


def test_an_unreachable_store_is_reported_with_its_endpoint_variable(tmp_path: Path) -> None:
    message = refused(bucket_at(tmp_path, NOBODY))

    assert "MOMENTRANK_LAKE is s3://bucket/lake" in message
    assert "Connection refused" in message
    assert "AWS_ENDPOINT_URL" in message


def test_a_store_that_never_answers_times_out(tmp_path: Path, silent: str) -> None:
    assert "MOMENTRANK_LAKE is s3://bucket/lake" in refused(bucket_at(tmp_path, silent))


def test_plain_http_must_be_allowed(tmp_path: Path) -> None:
    message = refused(bucket_at(tmp_path, NOBODY, AWS_ALLOW_HTTP="false"))

    assert "AWS_ALLOW_HTTP=true for http" in message


@pytest.mark.parametrize("variable", ["DAGSTER_POSTGRES", "TRACKING_URI"])
@pytest.mark.parametrize(
    ("address", "problem"),
    [
        (f"postgresql://momentrank:secret@{NOBODY}/runs", "Connection refused"),
        ("postgresql://momentrank:secret@127.0.0.1:port/runs", "is not a database URL"),
    ],
)
def test_an_unusable_database_is_reported(tmp_path: Path, variable: str, address: str, problem: str) -> None:
    pytest.importorskip("dagster_postgres", reason="the extra [postgres] is not installed")

    message = refused(loaded(tmp_path, **{variable: address}))

    assert f"MOMENTRANK_{variable}" in message
    assert problem in message


def test_a_database_that_never_answers_times_out(tmp_path: Path, silent: str) -> None:
    pytest.importorskip("dagster_postgres", reason="the extra [postgres] is not installed")

    message = refused(loaded(tmp_path, DAGSTER_POSTGRES=f"postgresql://momentrank:secret@{silent}/runs"))

    assert "timeout expired" in message


def test_a_missing_database_is_reported(tmp_path: Path, postgres: str) -> None:
    message = refused(loaded(tmp_path, DAGSTER_POSTGRES=f"{postgres}/elsewhere"))

    assert 'database "elsewhere" does not exist' in message
    assert "create the database" in message


def test_a_missing_bucket_is_reported(tmp_path: Path, store: SimpleNamespace) -> None:
    options = json.dumps(store.options)

    message = refused(loaded(tmp_path, ARTIFACTS="s3://elsewhere/artifacts", STORAGE_OPTIONS=options))

    assert "MOMENTRANK_ARTIFACTS is s3://elsewhere/artifacts" in message
    assert "NoSuchBucket" in message
    assert "create the bucket" in message


@pytest.mark.parametrize(
    ("variable", "value", "extra"),
    [
        ("DAGSTER_POSTGRES", f"postgresql://momentrank:secret@{NOBODY}/runs", "postgres"),
        ("TRACKING_URI", f"postgres://momentrank:secret@{NOBODY}/mlflow", "postgres"),
        ("ARTIFACTS", "s3://bucket/artifacts", "s3"),
    ],
)
def test_a_missing_extra_is_message_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, extra: str
) -> None:
    monkeypatch.setattr(storage, "find_spec", lambda name: None)

    message = refused(loaded(tmp_path, **{variable: value}))

    assert f"pip install -e '.[{extra}]'" in message
