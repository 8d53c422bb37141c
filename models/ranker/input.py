"""What a ranker reads of a table, and what it refuses to read."""

import re
from collections.abc import Sequence

import polars as pl

from features.config import sections
from features.errors import ModelError


def matrix(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """The columns in fitted order as Float32; anything else makes LightGBM end the process."""
    missing = [column for column in columns if column not in frame.columns]
    if missing or not columns:
        raise ModelError(
            f"the ranker needs the columns {', '.join(missing) or '(none declared)'}, not in the table: "
            "compute them as for its training, or fit a new ranker on what there is"
        )
    schema = frame.schema  # made anew at each look
    other = [
        f"{column} ({schema[column]})"
        for column in columns
        if not (schema[column].is_numeric() or schema[column] == pl.Boolean)
    ]
    if other:
        raise ModelError(
            f"columns are not numbers: {', '.join(other)}: turn them into numbers or leave them out"
        )
    return frame.select(pl.col(*columns).cast(pl.Float32)).rechunk()


def plain(columns: Sequence[str]) -> list[str]:
    """Names that LightGBM accepts: it refuses the special characters of JSON."""
    return [f"{place}_" + re.sub(r"\W", "_", column) for place, column in enumerate(columns)]


def label_levels(label: pl.Series, labels: sections.Labels) -> list[float]:
    """Declared gains in order, 0 included: a label's place among them is its LightGBM level."""
    grades = label.unique().to_list() if labels.graded else []
    levels = sorted({0.0, *labels.gains.values(), *grades})
    unknown = sorted(set(label.unique().to_list()) - set(levels), key=str)
    if levels[0] < 0 or unknown:
        raise ModelError(
            f"labels are {', '.join(map(str, unknown[:5])) or 'negative'}; expected one of {levels}, the "
            "declared gains: mend labels.gains in the project file, then run again"
        )
    return levels


def refuse_leaks(dataset: pl.DataFrame) -> None:
    """Raise ModelError if an interest score comes from a version that saw its row's slice."""
    if "interest_slice" not in dataset.columns:
        return
    leaks = dataset.filter(pl.col("interest_slice") >= pl.col("slice")).height
    if leaks:
        raise ModelError(
            f"{leaks} rows carry an interest score of a version fitted on their own or a later slice; only "
            "earlier versions may score them: score these slices again"
        )
