"""Fixtures: PostgreSQL and an S3-compatible store on loopback. Tests are skipped where these are not installed."""

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

SECONDS = 30
"""Seconds to wait for a server."""


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Start PostgreSQL with empty databases `dagster` and `mlflow`; yields its address without a database name."""
    for module in ("dagster_postgres", "psycopg2"):
        pytest.importorskip(module, reason=f"the extra [postgres] is not installed: no {module}")
    binaries = _postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's server is not installed")
    folder, port, user = Path(tempfile.mkdtemp(prefix="postgres-")), _free_port(), _unprivileged()
    if user:
        shutil.chown(folder, user)

    def control(program: str, *arguments: str) -> None:
        command = [str(binaries / program), "-D", str(folder / "data"), *arguments]
        # As another user if this is root: PostgreSQL refuses to run as root.
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=user, cwd=folder)

    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    try:
        control("initdb", "-U", "momentrank", "-A", "trust", "-E", "UTF8", "--no-sync")
        control("pg_ctl", "start", "-w", "-t", str(SECONDS), "-l", str(folder / "log"), "-o", options)
        try:
            address = f"postgresql://momentrank:hidden-password@127.0.0.1:{port}"
            _create_databases(address, "dagster", "mlflow")
            yield address
        finally:
            control("pg_ctl", "stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def store() -> Iterator[SimpleNamespace]:
    """Start an S3-compatible store with the bucket `bucket`; yields its `options` and a boto3 `client`."""
    boto3 = pytest.importorskip("boto3", reason="the extra [s3] is not installed")
    pytest.importorskip("moto", reason="moto, the S3-compatible store of the tests, is not installed")
    port = _free_port()
    program = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    server = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        options = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "a-key",
            "AWS_SECRET_ACCESS_KEY": "a-secret",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }
        client = boto3.client(
            "s3",
            endpoint_url=options["AWS_ENDPOINT_URL"],
            aws_access_key_id="a-key",
            aws_secret_access_key="a-secret",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket="bucket")
        yield SimpleNamespace(options=options, client=client)
    finally:
        server.terminate()
        server.wait(timeout=SECONDS)


@pytest.fixture(scope="session")
def stores(postgres: str, store: SimpleNamespace) -> dict[str, str]:
    """Environment variables of a deployment that uses both servers."""
    return {
        "MOMENTRANK_DAGSTER_POSTGRES": f"{postgres}/dagster",
        "MOMENTRANK_TRACKING_URI": f"{postgres}/mlflow",
        "MOMENTRANK_LAKE": "s3://bucket/lake",
        "MOMENTRANK_ARTIFACTS": "s3://bucket/artifacts",
        "MOMENTRANK_STORAGE_OPTIONS": json.dumps(store.options),
    }


def _postgres_binaries() -> Path | None:
    """Return the folder of `initdb` and `pg_ctl`: on the path, or Debian's."""
    for program in (shutil.which("pg_ctl"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))):
        if program and (Path(program).parent / "initdb").exists():
            return Path(program).parent
    return None


def _unprivileged() -> str | None:
    """Return a user other than root, or None if this process is not root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _create_databases(address: str, *names: str) -> None:
    import psycopg2

    connection = psycopg2.connect(f"{address}/postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        for name in names:
            cursor.execute(f"CREATE DATABASE {name}")
    connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    for _ in range(SECONDS * 10):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"no server answers on port {port}")
