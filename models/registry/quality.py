"""A slice's evaluation as MLflow metrics, and the table that they were measured on.

`full/ndcg_at_10` is a scorer's mean, `full/ndcg_at_10_low` and `_high` are its confidence interval, and
`segment/new_users/full/ndcg_at_10` is the mean in a segment.
"""

import re
from typing import NamedTuple

import polars as pl

from models.evaluation.evaluate import ALL

_ENDS = {"mean": "", "low": "_low", "high": "_high"}


class Table(NamedTuple):
    """A version of a Delta table."""

    name: str
    version: int
    """Delta version; the digest of the MLflow dataset."""
    location: str
    """Folder or URL."""


def points(table: pl.DataFrame) -> dict[str, float]:
    """Metric name → value from an evaluation table (`EvaluationResult.table`), without nulls."""
    return {
        f"{_prefix(row['segment'])}{row['scorer']}/{row['metric'].replace('@', '_at_')}{suffix}": row[end]
        for row in table.iter_rows(named=True)
        for end, suffix in _ENDS.items()
        if row[end] is not None
    }


def _prefix(segment: str) -> str:
    """The name prefix of a segment, with other characters than letters, digits, `_` and `-` replaced for MLflow."""
    readable = re.sub(r"[^\w-]+", "_", segment)
    return "" if segment == ALL else f"segment/{readable}/"
