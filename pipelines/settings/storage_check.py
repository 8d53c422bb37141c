"""Check within seconds that the databases, buckets and the cluster of the settings respond.

Their own clients retry for minutes and then show a stack trace. Local files are not checked: they are created.
"""

import re
import socket
from collections.abc import Mapping
from importlib.util import find_spec

from features.errors import ProjectError
from pipelines.settings.dagster_instance import POSTGRES
from pipelines.settings.settings import Settings

SECONDS = 3
"""Timeout of one attempt to reach a database or bucket; there are two attempts."""

_TIMEOUTS = {
    "connect_timeout": f"{SECONDS}s",
    "timeout": f"{SECONDS}s",
    "max_retries": "1",
    "retry_timeout": f"{2 * SECONDS}s",
}
_KEYS = (
    "MOMENTRANK_STORAGE_OPTIONS or the AWS_… variables (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, "
    "AWS_SECRET_ACCESS_KEY, AWS_REGION; AWS_ALLOW_HTTP=true for http)"
)
_TREE = re.compile(r"\x1b\[[0-9;]*m|^[\s↳]+", re.MULTILINE)
_RESPONSE = re.compile(r"<Code>(.*?)</Code>(?:\s*<Message>(.*?)</Message>)?", re.DOTALL)


def check(settings: Settings) -> None:
    """Raise ProjectError, which names the variable to correct, unless all respond."""
    _check_database(POSTGRES, settings.dagster_postgres, needs="dagster_postgres")
    _check_database("MOMENTRANK_TRACKING_URI", settings.tracking_uri, needs="psycopg2")
    _check_bucket("MOMENTRANK_LAKE", settings.lake, settings.storage_options)
    _check_bucket("MOMENTRANK_SCRATCH", settings.scratch, settings.storage_options)
    if settings.artifacts.startswith("s3://"):
        _require("MOMENTRANK_ARTIFACTS", settings.artifacts, "boto3", "s3")
        _check_bucket("MOMENTRANK_ARTIFACTS", settings.artifacts, settings.storage_options)
    if settings.engine == "ray":
        _check_cluster(settings)


def _check_cluster(settings: Settings) -> None:
    _require("MOMENTRANK_ENGINE", "ray", "ray", "ray")
    host, _, port = settings.ray_address.rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ProjectError(
            f"MOMENTRANK_RAY_ADDRESS is {settings.ray_address}, and nothing answers there: {error}. Start the head "
            f"(ray start --head --port={port}), correct the address, or unset it for a local Ray"
        ) from None


def _check_database(variable: str, url: str, needs: str) -> None:
    if not url.startswith("postgresql"):
        return
    from sqlalchemy import create_engine
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, OperationalError

    try:
        shown = make_url(url).render_as_string(hide_password=True)
        _require(variable, shown, needs, "postgres")
        engine = create_engine(url, connect_args={"connect_timeout": SECONDS})
        try:
            engine.connect().close()
        finally:
            engine.dispose()
    except (ArgumentError, ValueError):
        # Not quoted: it may contain a password.
        raise ProjectError(
            f"{variable} is not a database URL: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, "
            "with %40 for an @ in the password"
        ) from None
    except OperationalError as error:
        reason = " ".join(str(error.orig).split())
        raise ProjectError(
            f"{variable} is {shown}, but that database cannot be used: {reason}. "
            "Start it, create the database, or correct the URL"
        ) from None


def _check_bucket(variable: str, url: str, options: Mapping[str, str]) -> None:
    if "://" not in url or url.startswith("file://"):
        return
    from deltalake import DeltaTable

    try:
        # Lists one folder, as every read and write of a table does first.
        DeltaTable.is_deltatable(url, {**options, **_TIMEOUTS})
    except (OSError, ValueError) as error:
        raise ProjectError(
            f"{variable} is {url}, but that bucket cannot be used: {_reason(error)}. "
            f"Start the store, create the bucket, or correct {variable}, {_KEYS}"
        ) from None


def _reason(error: Exception) -> str:
    """An object store's error code and message, or else the innermost error."""
    text = _TREE.sub("", str(error))
    if response := _RESPONSE.search(text):
        return ": ".join(part for part in response.groups() if part)
    return next((line for line in reversed(text.splitlines()) if line.strip()), type(error).__name__)


def _require(variable: str, shown: str, module: str, extra: str) -> None:
    if find_spec(module) is None:
        raise ProjectError(
            f"{variable} is {shown}, which needs the package {module.replace('_', '-')}: "
            f"pip install -e '.[{extra}]'"
        )
