"""What is handed to the tracking store and said about it. Knows no MLflow: `models/registry/registry.py` does."""

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
from models.ranker.serving import FULL, KEYS, ServedRanker

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    # By default a person waits for minutes when the server has gone away.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}

_DAMAGED = ("file is not a database", "malformed")
_LOST = ("no such artifact", "no such file or directory")


def quieten() -> None:
    """Keep MLflow quiet, private and short of patience in this process; what a person has set stays."""
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(os.environ["MLFLOW_LOGGING_LEVEL"].upper())


def is_server(address: str) -> bool:
    """Whether an address names a tracking server, not a database."""
    return address.startswith(("http://", "https://"))


def ask(address: str, seconds: float = 3) -> None:
    """Ask a tracking server whether it is there. Raises OSError (URLError) when nobody answers."""
    try:
        urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=seconds).close()
    except urllib.error.HTTPError:
        return  # Somebody answered; what is wrong with the request, the next one tells better.


def unusable(address: str, cause: Exception) -> TrackingError:
    """The error for a store that failed, without the credentials in its address."""
    place = shown(address)
    found = f"{type(cause).__name__}: {reason(cause).replace(address, place)}"
    if address.startswith("sqlite:") and any(words in str(cause) for words in _DAMAGED):
        return TrackingError(
            f"the MLflow database at {place} is damaged ({found}): put it back from a copy, or move it away and run "
            "all slices again, which registers new versions"
        )
    return TrackingError(
        f"the MLflow store at {place} could not be used: {found}. "
        f"Start that server or mend its address; where none is set, runs go to a local database"
    )


def shown(address: str) -> str:
    """An address without the credentials in it."""
    return re.sub(r"//[^/@]*@", "//…@", address)


def lost(error: Exception) -> bool:
    """Whether an error says that an artifact is not there, rather than that its store is away."""
    return any(words in str(error).lower() for words in _LOST)


def reason(error: Exception) -> str:
    """The first line of an error."""
    return str(error).strip().partition("\n")[0][:300]


@contextmanager
def ranker_folder(rankers: Mapping[str, Ranker]) -> Iterator[Path]:
    """A folder with each ranker in a folder of its name, while the context lasts."""
    with TemporaryDirectory() as scratch:
        for name, ranker in rankers.items():
            ranker.save(Path(scratch, "rankers", name))
        yield Path(scratch, "rankers")


@contextmanager
def figures_folder(figures: Mapping[str, bytes]) -> Iterator[Path]:
    """A folder with each PNG under its name, while the context lasts."""
    with TemporaryDirectory() as scratch:
        for name, png in figures.items():
            Path(scratch, f"{name}.png").write_bytes(png)
        yield Path(scratch)


def ranked_rows(ranker: Ranker, example: pl.DataFrame) -> tuple[Any, Any]:
    """Example rows of a ranker as the pandas frame that MLflow's signatures know, and the answers to them.

    The columns are doubles, integers too: an integer column could not hold a missing value when the model is
    served. Raises ModelError when a column is missing that the ranker was fitted on.
    """
    missing = [column for column in (*KEYS, *ranker.columns) if column not in example.columns]
    if missing:
        raise ModelError(
            f"the input example lacks columns that the ranker was fitted on: {', '.join(missing)}; "
            f"take its rows from the table that the ranker was fitted on"
        )
    # Not the list's own id: an example stays with its version for ever, and that id leads to a person.
    lists = pl.format("list {}", pl.col("impression_id").rank("dense"))
    keys, fitted = pl.col(KEYS).cast(pl.String), pl.col(ranker.columns).cast(pl.Float64)
    rows = example.select(keys, fitted).with_columns(impression_id=lists).to_pandas()
    with ranker_folder({FULL: ranker}) as folder:
        return rows, ServedRanker(folder / FULL).predict(rows)


def served_rows(example: Sequence[Mapping[str, Any]]) -> tuple[Any, list[list[float]]]:
    """Example rows of an interest model as the pandas frame that MLflow's signatures know, and answers to them.

    The answers show the form alone: a number a candidate, a list a row.
    """
    import pandas

    return pandas.DataFrame([dict(row) for row in example]), [
        [0.0] * len(row["candidates"]) for row in example
    ]


def measures(
    metrics: Mapping[str, float | None], curves: Sequence[Mapping[str, Any]] = ()
) -> list[tuple[str, float, int]]:
    """(name, value, step) of each metric and of each point of the curves; what was not measured is left out.

    A curve's row holds `step` (else its number counts) and values by name. MLflow takes no `@` in a name.
    """
    rows = [(0, metrics), *((int(row.get("step", number)), row) for number, row in enumerate(curves))]
    return [
        (name.replace("@", "_at_"), float(value), step)
        for step, row in rows
        for name, value in row.items()
        if name != "step" and value is not None
    ]


def to_upgrade(database: str) -> Iterator[str]:
    """Addresses to bring to the newest schema, one after the other: the database's own comes last.

    A new SQLite file is made whole beside its place and then put there: one whose making is cut short could not be
    mended by going on with it.
    """
    from sqlalchemy import make_url

    address = make_url(database)
    file = Path(address.database) if address.get_backend_name() == "sqlite" and address.database else None
    if file and not file.exists():
        draft = file.with_name(f"{file.name}.{uuid.uuid4()}")
        yield str(address.set(database=str(draft)))
        with suppress(FileExistsError):  # somebody else was quicker: theirs is as good
            file.hardlink_to(draft)
        draft.unlink()
    yield database
