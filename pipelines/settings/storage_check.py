"""Whether the databases, buckets and the cluster that the settings name answer: asked once, in seconds, at first.

Their own clients try for minutes and then show a stack trace. Local files are not asked: they are made.
"""

import re
import socket
from collections.abc import Mapping
from importlib.util import find_spec

from features.errors import ProjectError
from pipelines.settings.dagster_instance import POSTGRES
from pipelines.settings.settings import Settings

SECONDS = 3
"""How long one attempt to reach a database or a bucket may take; there are two."""

_PATIENCE = {
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
_ANSWER = re.compile(r"<Code>(.*?)</Code>(?:\s*<Message>(.*?)</Message>)?", re.DOTALL)


def check(settings: Settings) -> None:
    """Raise ProjectError, with what was found and the variable to mend, unless all can be used."""
    _ask_database(POSTGRES, settings.dagster_postgres, needs="dagster_postgres")
    _ask_database("MOMENTRANK_TRACKING_URI", settings.tracking_uri, needs="psycopg2")
    _ask_bucket("MOMENTRANK_LAKE", settings.lake, settings.storage_options)
    _ask_bucket("MOMENTRANK_SCRATCH", settings.scratch, settings.storage_options)
    if settings.artifacts.startswith("s3://"):
        _require("MOMENTRANK_ARTIFACTS", settings.artifacts, "boto3", "s3")
        _ask_bucket("MOMENTRANK_ARTIFACTS", settings.artifacts, settings.storage_options)
    if settings.engine == "ray":
        _ask_cluster(settings)


def _ask_cluster(settings: Settings) -> None:
    _require("MOMENTRANK_ENGINE", "ray", "ray", "ray")
    host, _, port = settings.ray_address.rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ProjectError(
            f"MOMENTRANK_RAY_ADDRESS is {settings.ray_address}, and nothing answers there: {error}. Start the head "
            f"(ray start --head --port={port}), mend the address, or unset it for a Ray of this machine"
        ) from None


def _ask_database(variable: str, url: str, needs: str) -> None:
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
        # Not quoted back: it may hold a password.
        raise ProjectError(
            f"{variable} is no address of a database: write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, "
            "with %40 for an @ in the password"
        ) from None
    except OperationalError as error:
        reason = " ".join(str(error.orig).split())
        raise ProjectError(
            f"{variable} is {shown}, and that database cannot be used: {reason}. "
            "Start it, create the database, or mend the address"
        ) from None


def _ask_bucket(variable: str, url: str, options: Mapping[str, str]) -> None:
    if "://" not in url or url.startswith("file://"):
        return
    from deltalake import DeltaTable

    try:
        # Lists one folder: what every reading and writing of a table begins with.
        DeltaTable.is_deltatable(url, {**options, **_PATIENCE})
    except (OSError, ValueError) as error:
        raise ProjectError(
            f"{variable} is {url}, and that bucket cannot be used: {_reason(error)}. "
            f"Start the store, create the bucket, or mend {variable}, {_KEYS}"
        ) from None


def _reason(error: Exception) -> str:
    """The last thing an object store said: its own code and message, or the innermost error."""
    text = _TREE.sub("", str(error))
    if answer := _ANSWER.search(text):
        return ": ".join(part for part in answer.groups() if part)
    return next((line for line in reversed(text.splitlines()) if line.strip()), type(error).__name__)


def _require(variable: str, shown: str, module: str, extra: str) -> None:
    if find_spec(module) is None:
        raise ProjectError(
            f"{variable} is {shown}, which needs the package {module.replace('_', '-')}: "
            f"pip install -e '.[{extra}]'"
        )
