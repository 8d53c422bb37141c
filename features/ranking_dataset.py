"""The table a ranker is fitted on and evaluated on: candidates, features and interest scores, row for row."""

import polars as pl

from features.catalogue.relative import relative
from features.errors import TableError

KEYS = ("impression_id", "item_id")
INTEREST = "interest_score"


def assemble(candidates: pl.DataFrame, features: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """One row a candidate: `schemas.Candidates`, the features, the interest score and its list-relative forms.

    A candidate without features or without a row of scores (null is allowed) raises TableError: an inner join
    would lose it in silence.
    """
    for name, table in (("features", features), ("interest_scores", scores)):
        missing = candidates.join(table, on=KEYS, how="anti")
        if missing.height:
            raise TableError(
                f"{missing.height} of {candidates.height} candidates have no row in {name}, the first of "
                f"impression {missing['impression_id'][0]!r}: materialise {name} for this slice again"
            )
    return (
        candidates.join(features, on=KEYS, how="left", maintain_order="left")
        .join(relative(scores, {"z": [INTEREST]}), on=KEYS, how="left", maintain_order="left")
        .sort("as_of", "impression_id", "position")
    )


def feature_columns(dataset: pl.DataFrame) -> list[str]:
    """The columns a ranker may read: everything but keys, outcome, position and provenance."""
    withheld = {
        "slice", "impression_id", "item_id", "user_id", "position", "as_of", "label", "clicked", "interest_slice",
    }  # fmt: skip
    return [name for name in dataset.columns if name not in withheld]


def text_columns(columns: list[str]) -> list[str]:
    """Those of `columns` that come from text: the interest score, text similarities, and their forms."""
    return [name for name in columns if name.startswith(("text_", INTEREST))]
