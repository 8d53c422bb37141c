"""What is logged with a run: folders, input examples and measures."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from features.errors import ModelError
from models.ranker import Ranker
from models.ranker.served_ranker import FULL, KEYS, ServedRanker


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
