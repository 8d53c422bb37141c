"""Read and validate the variables of `pipelines/settings/settings.py`. All raise ProjectError."""

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
_UNSAFE = re.compile(r"[?\\\n\r]|%[0-9A-Fa-f]{2}")
_STORAGE_EXAMPLE = """write for example '{"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}'"""


def read(name: str) -> str:
    """The stripped value of an environment variable; empty if it is not set."""
    return os.environ.get(name, "").strip()


def folder(name: str, default: Path) -> Path:
    """An absolute folder."""
    path = Path(read(name) or default).expanduser().resolve()
    if _UNSAFE.search(str(path)):
        raise ProjectError(
            f"{name} is {path}: SQLite and Delta misread '?', backslashes, line breaks and percent codes such as %20 "
            f"in a folder's name. Set {name} to a folder without them"
        )
    return path


def tracking_uri(home: Path) -> str:
    """URI of MLflow's tracking server or database."""
    uri = read("MOMENTRANK_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"
    if urlparse(uri).scheme in ("", "file"):
        raise ProjectError(
            f"MOMENTRANK_TRACKING_URI is {uri!r}, but MLflow no longer supports plain files: "
            "use sqlite:///FILE, postgresql://… or http://HOST:PORT, or unset it"
        )
    return _with_driver(re.sub(r"^sqlite:///(?![/:]|file:)(.+)", _absolute, uri))


def _absolute(relative: re.Match[str]) -> str:
    return f"sqlite:///{Path(relative[1]).resolve()}"


def dagster_postgres() -> str:
    """URL of the Dagster instance's database; empty for SQLite."""
    url = _with_driver(read(POSTGRES))
    if url and not url.startswith("postgresql+psycopg2://"):
        raise ProjectError(
            f"{POSTGRES} does not start with postgresql://: "
            "write postgresql://USER:PASSWORD@HOST/DATABASE, or unset it to store runs in SQLite"
        )
    return url


def _with_driver(url: str) -> str:
    """A PostgreSQL URL with the installed driver, which is not SQLAlchemy's default."""
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", url)


def artifacts(home: Path) -> str:
    """URL of MLflow artifacts."""
    value = folder_or_url("MOMENTRANK_ARTIFACTS", home / "mlartifacts")
    return value if "://" in value else Path(value).as_uri()


def folder_or_url(name: str, default: Path) -> str:
    """An absolute folder, or the URL of one in an object store."""
    value = read(name)
    scheme, _, path = value.partition("://")
    if not path:
        return str(folder(name, default))
    if scheme not in _STORES:
        raise ProjectError(
            f"{name} is {value}: write a folder, or a URL that starts with {', '.join(_STORES)}"
        )
    return value


def storage_options() -> dict[str, str]:
    """Credentials and endpoint of the object store."""
    text = read("MOMENTRANK_STORAGE_OPTIONS")
    if not text:
        return {}
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        # Not quoted: it contains credentials.
        raise ProjectError(f"MOMENTRANK_STORAGE_OPTIONS is not JSON ({error}): {_STORAGE_EXAMPLE}") from None
    if not isinstance(options, dict) or not all(isinstance(value, str) for value in options.values()):
        raise ProjectError(f"MOMENTRANK_STORAGE_OPTIONS is not a JSON object of strings: {_STORAGE_EXAMPLE}")
    return options


def address(name: str, default: str) -> str:
    """A web address without a trailing slash."""
    url = read(name) or default
    parsed = urlparse(url)
    if parsed.scheme not in ("http", "https") or not parsed.netloc:
        raise ProjectError(f"{name} is {url!r}, which is not a web address: write, for example, {default}")
    return url.rstrip("/")


def engine() -> Literal["embedded", "ray"]:
    """Where work runs."""
    match read("MOMENTRANK_ENGINE"):
        case "" | "embedded":
            return "embedded"
        case "ray":
            return "ray"
        case other:
            raise ProjectError(
                f"MOMENTRANK_ENGINE is {other!r}: write ray for a Ray cluster, or embedded (the default)"
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
                f"MOMENTRANK_EXECUTOR is {other!r}: write multiprocess for one process per step, or in_process (the "
                "default) for one process per run"
            )


def ray_address() -> str:
    """`HOST:PORT` of the head of a Ray cluster, or `auto`; empty for a local Ray."""
    address = read("MOMENTRANK_RAY_ADDRESS")
    if address and not _RAY_ADDRESS.fullmatch(address):
        raise ProjectError(
            f"MOMENTRANK_RAY_ADDRESS is {address!r}: write HOST:PORT of the cluster's head (as `ray start` prints it, "
            "without ray://), auto for the cluster that this machine has joined, or unset it for a local Ray"
        )
    return address


def ray_cores() -> int:
    """Cores per Ray task and training worker."""
    cores = read("MOMENTRANK_RAY_CORES") or "1"
    if not cores.isdecimal() or int(cores) < 1:
        raise ProjectError(
            f"MOMENTRANK_RAY_CORES is {cores!r}: write a whole number of at least 1, for example 4"
        )
    return int(cores)
