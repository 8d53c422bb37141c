"""Settings, errors and inputs of the MLflow store; only `models/registry/registry.py` calls MLflow."""

import logging
import os
import re
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from features.errors import ModelError, TrackingError
from models.ranker import Ranker
from models.ranker.served_ranker import FULL, KEYS, ServedRanker

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    # The default waits for minutes if the server is down.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}

_DAMAGED = ("file is not a database", "malformed")
_MISSING_FILE = ("no such artifact", "no such file or directory")


def quieten() -> None:
    """Disable MLflow's output, telemetry and long retries in this process, unless the environment sets them."""
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(os.environ["MLFLOW_LOGGING_LEVEL"].upper())


def is_server(address: str) -> bool:
    """Whether an address is a tracking server's, not a database's."""
    return address.startswith(("http://", "https://"))


def ping(address: str, seconds: float = 3) -> None:
    """Check that a tracking server responds. Raises OSError (URLError) if not."""
    try:
        urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=seconds).close()
    except urllib.error.HTTPError:
        return  # The server responds; the next request reports its error better.


def unusable(address: str, cause: Exception) -> TrackingError:
    """The error for a store that failed; its address is shown without credentials."""
    location = shown(address)
    cause_text = f"{type(cause).__name__}: {reason(cause).replace(address, location)}"
    if address.startswith("sqlite:") and any(words in str(cause) for words in _DAMAGED):
        return TrackingError(
            f"the MLflow database at {location} is damaged ({cause_text}): restore it from a backup, or move it away "
            "and run all slices again to register new versions"
        )
    return TrackingError(
        f"the MLflow store at {location} could not be used: {cause_text}. "
        "Start the server or correct its address; without an address, runs go to a local database"
    )


def shown(address: str) -> str:
    """An address with its credentials replaced by `…`."""
    return re.sub(r"//[^/@]*@", "//…@", address)


def is_missing_file(error: Exception) -> bool:
    """Whether an error is about a missing artifact, not an unreachable store."""
    return any(words in str(error).lower() for words in _MISSING_FILE)


def reason(error: Exception) -> str:
    """The first line of an error."""
    return str(error).strip().partition("\n")[0][:300]


@contextmanager
def ranker_folder(rankers: Mapping[str, Ranker]) -> Iterator[Path]:
    """A temporary folder with each ranker in a subfolder of its name."""
    with TemporaryDirectory() as scratch:
        for name, ranker in rankers.items():
            ranker.save(Path(scratch, "rankers", name))
        yield Path(scratch, "rankers")


@contextmanager
def figures_folder(figures: Mapping[str, bytes]) -> Iterator[Path]:
    """A temporary folder with each PNG under its name."""
    with TemporaryDirectory() as scratch:
        for name, png in figures.items():
            Path(scratch, f"{name}.png").write_bytes(png)
        yield Path(scratch)


def ranker_example(ranker: Ranker, example: pl.DataFrame) -> tuple[Any, Any]:
    """A ranker's input example as a pandas frame, for MLflow's signature, and the outputs for it.

    All features are doubles: served integer columns could not hold missing values. Raises ModelError if a fitted column
    is missing.
    """
    missing = [column for column in (*KEYS, *ranker.columns) if column not in example.columns]
    if missing:
        raise ModelError(
            f"the input example lacks columns that the ranker was fitted on: {', '.join(missing)}; take its rows from "
            "the ranker's training table"
        )
    # Replace the ids: an example stays with its version for ever, and impression ids identify users.
    impressions = pl.format("impression {}", pl.col("impression_id").rank("dense"))
    keys, features = pl.col(KEYS).cast(pl.String), pl.col(ranker.columns).cast(pl.Float64)
    rows = example.select(keys, features).with_columns(impression_id=impressions).to_pandas()
    with ranker_folder({FULL: ranker}) as folder:
        return rows, ServedRanker(folder / FULL).predict(rows)


def interest_example(example: Sequence[Mapping[str, Any]]) -> tuple[Any, list[list[float]]]:
    """An interest model's input example as a pandas frame, for MLflow's signature, and outputs for it.

    The outputs are zeros, in the right shape: per row a list with one number per candidate.
    """
    import pandas

    return pandas.DataFrame([dict(row) for row in example]), [
        [0.0] * len(row["candidates"]) for row in example
    ]


def measures(
    metrics: Mapping[str, float | None], curves: Sequence[Mapping[str, Any]] = ()
) -> list[tuple[str, float, int]]:
    """(name, value, step) of each metric and each point of the curves, without nulls.

    A row of `curves` has `step` (default: its index) and values by name. `@` becomes `_at_`: MLflow does not accept it.
    """
    rows = [(0, metrics), *((int(row.get("step", number)), row) for number, row in enumerate(curves))]
    return [
        (name.replace("@", "_at_"), float(value), step)
        for step, row in rows
        for name, value in row.items()
        if name != "step" and value is not None
    ]


def to_upgrade(database: str) -> Iterator[str]:
    """Yield the addresses to upgrade, one after the other, the database itself last.

    A new SQLite file is created under a temporary name and then linked: one that is interrupted half-way could not be
    upgraded.
    """
    from sqlalchemy import make_url

    address = make_url(database)
    file = Path(address.database) if address.get_backend_name() == "sqlite" and address.database else None
    if file and not file.exists():
        draft = file.with_name(f"{file.name}.{uuid.uuid4()}")
        yield str(address.set(database=str(draft)))
        with suppress(FileExistsError):  # another process created it first
            file.hardlink_to(draft)
        draft.unlink()
    yield database
