"""What the variables of `pipelines/settings/settings.py` hold: each is read and checked here. Raises ProjectError."""

import json
import os
import re
from pathlib import Path
from typing import Literal
from urllib.parse import urlparse

from features.errors import ProjectError
from pipelines.settings.dagster_instance import POSTGRES

_STORES = ("file", "s3", "s3a", "gs", "az", "abfs", "abfss")
_RAY_ADDRESS = re.compile(r"auto|(\[[0-9A-Fa-f:]+\]|[^\s/:\[\]]+):\d+")
_UNKEPT = re.compile(r"[?\\\n\r]|%[0-9A-Fa-f]{2}")
_STORAGE_EXAMPLE = """write for example '{"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}'"""


def read(name: str) -> str:
    """What a variable of the environment holds, stripped; empty where it is not set."""
    return os.environ.get(name, "").strip()


def folder(name: str, default: Path) -> Path:
    """An absolute folder."""
    found = Path(read(name) or default).expanduser().resolve()
    if _UNKEPT.search(str(found)):
        raise ProjectError(
            f"{name} is {found}: SQLite and Delta misread '?', backslashes, line breaks and percent codes such as %20 "
            f"in a folder's name. Set {name} to a folder without them"
        )
    return found


def tracking_uri(home: Path) -> str:
    """Where MLflow keeps its records."""
    uri = read("MOMENTRANK_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"
    if urlparse(uri).scheme in ("", "file"):
        raise ProjectError(
            f"MOMENTRANK_TRACKING_URI is {uri!r}, and MLflow no longer keeps its records in plain files: "
            "use sqlite:///FILE, postgresql://… or http://HOST:PORT, or unset it"
        )
    return _with_driver(re.sub(r"^sqlite:///(?![/:]|file:)(.+)", _absolute, uri))


def _absolute(relative: re.Match[str]) -> str:
    return f"sqlite:///{Path(relative[1]).resolve()}"


def dagster_postgres() -> str:
    """Database of the Dagster instance; empty for SQLite."""
    url = _with_driver(read(POSTGRES))
    if url and not url.startswith("postgresql+psycopg2://"):
        raise ProjectError(
            f"{POSTGRES} does not begin with postgresql://: "
            "write postgresql://USER:PASSWORD@HOST/DATABASE, or unset it to keep the runs in SQLite"
        )
    return url


def _with_driver(url: str) -> str:
    """A PostgreSQL address with the driver that is installed: left to itself, SQLAlchemy takes another."""
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", url)


def artifacts(home: Path) -> str:
    """URL of MLflow's artifacts."""
    named = place("MOMENTRANK_ARTIFACTS", home / "mlartifacts")
    return named if "://" in named else Path(named).as_uri()


def place(name: str, default: Path) -> str:
    """An absolute folder, or the URL of one in an object store."""
    named = read(name)
    scheme, _, rest = named.partition("://")
    if not rest:
        return str(folder(name, default))
    if scheme not in _STORES:
        raise ProjectError(
            f"{name} is {named}: write a folder, or a URL that begins with {', '.join(_STORES)}"
        )
    return named


def storage_options() -> dict[str, str]:
    """Keys and endpoint of the object store."""
    text = read("MOMENTRANK_STORAGE_OPTIONS")
    if not text:
        return {}
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        # Not quoted back: it holds keys that must not end in a log.
        raise ProjectError(f"MOMENTRANK_STORAGE_OPTIONS is not JSON ({error}): {_STORAGE_EXAMPLE}") from None
    if not isinstance(options, dict) or not all(isinstance(value, str) for value in options.values()):
        raise ProjectError(f"MOMENTRANK_STORAGE_OPTIONS is not a JSON object of texts: {_STORAGE_EXAMPLE}")
    return options


def address(name: str, default: str) -> str:
    """A web address, without a slash at its end."""
    named = read(name) or default
    parsed = urlparse(named)
    if parsed.scheme not in ("http", "https") or not parsed.netloc:
        raise ProjectError(f"{name} is {named!r}, which is no web address: write for example {default}")
    return named.rstrip("/")


def engine() -> Literal["embedded", "ray"]:
    """Where work runs."""
    match read("MOMENTRANK_ENGINE"):
        case "" | "embedded":
            return "embedded"
        case "ray":
            return "ray"
        case other:
            raise ProjectError(
                f"MOMENTRANK_ENGINE is {other!r}: write ray to work on a Ray cluster, or embedded (or nothing) to "
                "work in one process"
            )


def executor() -> Literal["in_process", "multiprocess"]:
    """How Dagster executes the steps of a run."""
    match read("MOMENTRANK_EXECUTOR"):
        case "" | "in_process":
            return "in_process"
        case "multiprocess":
            return "multiprocess"
        case other:
            raise ProjectError(
                f"MOMENTRANK_EXECUTOR is {other!r}: write multiprocess for a process per step, or in_process (or "
                "nothing) for one process per run"
            )


def ray_address() -> str:
    """`HOST:PORT` of the head of a Ray cluster, or `auto`; empty for a Ray of our own."""
    named = read("MOMENTRANK_RAY_ADDRESS")
    if named and not _RAY_ADDRESS.fullmatch(named):
        raise ProjectError(
            f"MOMENTRANK_RAY_ADDRESS is {named!r}: write HOST:PORT of the cluster's head (as `ray start` says it, "
            "without ray://), auto for the Ray that this machine has joined, or nothing for one of our own"
        )
    return named


def ray_cores() -> int:
    """Cores that a task, an actor or a training worker of Ray holds."""
    named = read("MOMENTRANK_RAY_CORES") or "1"
    if not named.isdecimal() or int(named) < 1:
        raise ProjectError(f"MOMENTRANK_RAY_CORES is {named!r}: write a whole number from 1, for example 4")
    return int(named)
