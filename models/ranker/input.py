"""A ranker's input: a sample of impressions where one process cannot fit on all, the matrix, label levels, checks."""

import re
from collections.abc import Sequence

import polars as pl

from features.config import sections
from features.errors import ModelError
from models.ranking import require, stable_hash


def matrix(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """The columns as Float32, in this order. Raises ModelError for other types: they would crash LightGBM."""
    missing = [column for column in columns if column not in frame.columns]
    if missing or not columns:
        raise ModelError(
            f"the ranker needs the columns {', '.join(missing) or '(none declared)'}, not in the table: "
            "compute them as for its training, or fit a new ranker without them"
        )
    schema = frame.schema  # computed at every access
    not_numeric = [
        f"{column} ({schema[column]})"
        for column in columns
        if not (schema[column].is_numeric() or schema[column] == pl.Boolean)
    ]
    if not_numeric:
        raise ModelError(f"columns are not numbers: {', '.join(not_numeric)}: convert them or leave them out")
    return frame.select(pl.col(*columns).cast(pl.Float32)).rechunk()


def feature_names(columns: Sequence[str]) -> list[str]:
    """Names that LightGBM accepts: it rejects JSON's special characters."""
    return [f"{index}_" + re.sub(r"\W", "_", column) for index, column in enumerate(columns)]


def label_levels(label: pl.Series, labels: sections.Labels) -> list[float]:
    """Declared gains in ascending order with 0; a label's index among them is its LightGBM level."""
    grades = label.unique().to_list() if labels.graded else []
    levels = sorted({0.0, *labels.gains.values(), *grades})
    unknown = sorted(set(label.unique().to_list()) - set(levels), key=str)
    if levels[0] < 0 or unknown:
        raise ModelError(
            f"labels are {', '.join(map(str, unknown[:5])) or 'negative'}; expected one of {levels}, the "
            "declared gains: correct labels.gains in the project file, then run again"
        )
    return levels


def refuse_leaks(dataset: pl.DataFrame) -> None:
    """Raise ModelError if an interest score is from a version fitted on its row's slice or a later one."""
    if "interest_slice" not in dataset.columns:
        return
    leaks = dataset.filter(pl.col("interest_slice") >= pl.col("slice")).height
    if leaks:
        raise ModelError(
            f"{leaks} rows have an interest score of a version fitted on their own or a later slice; only earlier "
            "versions may score them: score these slices again"
        )


def draw(impressions: pl.DataFrame, candidates: int, seed: int) -> pl.DataFrame:
    """A sample of rows of `impressions` with at most `candidates` in total, the same share of every slice.

    `impressions` has one row each: `slice, impression_id, candidates` (how many it has). A hash of id and seed decides,
    so the sample does not depend on row order or machine.
    """
    require(impressions, ("slice", "impression_id", "candidates"), "sampling of impressions")
    share = candidates / max(1, int(impressions["candidates"].sum()))
    drawn = impressions.with_columns(draw=stable_hash(impressions["impression_id"], seed)).sort(
        "slice", "draw", "impression_id"
    )
    count = pl.col("candidates").cast(pl.Int64)
    within = count.cum_sum().over("slice") <= count.sum().over("slice") * min(1.0, share)
    return drawn.filter(within).drop("draw")
