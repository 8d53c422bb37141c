"""A slice's evaluation as MLflow shows it: metrics on a version, and the table that they were measured on.

`full/ndcg_at_10` is a scorer's mean, `full/ndcg_at_10_low` and `_high` are the ends of its confidence interval, and
`segment/new_users/full/ndcg_at_10` is the same in a segment. Knows no MLflow.
"""

import re
from typing import NamedTuple

import polars as pl

from models.evaluation.evaluate import ALL

_ENDS = {"mean": "", "low": "_low", "high": "_high"}


class Table(NamedTuple):
    """A Delta table as it was read."""

    name: str
    version: int
    """Delta version; the digest of the MLflow dataset."""
    location: str
    """Folder or URL."""


def points(table: pl.DataFrame) -> dict[str, float]:
    """Metric name → value of an evaluation table (`EvaluationResult.table`), without what could not be measured."""
    return {
        f"{_place(row['segment'])}{row['scorer']}/{row['metric'].replace('@', '_at_')}{suffix}": row[end]
        for row in table.iter_rows(named=True)
        for end, suffix in _ENDS.items()
        if row[end] is not None
    }


def _place(segment: str) -> str:
    """MLflow takes letters, digits, `_`, `-` and a few more in a name; a segment may be any text."""
    readable = re.sub(r"[^\w-]+", "_", segment)
    return "" if segment == ALL else f"segment/{readable}/"
