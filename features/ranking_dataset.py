"""The ranking dataset: candidates joined with features and interest scores."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from features.errors import TableError
from features.sources.item_rows import UNLABELLED

KEYS = ("impression_id", "item_id")
INTEREST = "interest_score"


def assemble(candidates: pl.DataFrame, features: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """One row per candidate: `schemas.Candidates`, features, interest score and its list-relative forms.

    Raises TableError if a candidate has no row in `features` or `scores` (a null score is allowed).
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


def labelled(impressions: pl.DataFrame) -> pl.DataFrame:
    """The impressions with a known label. The others are scored and monitored, but no model learns from them."""
    names = pl.col("context").list.eval(pl.element().struct.field("name"))
    return impressions.filter(~names.list.contains(UNLABELLED))


def feature_columns(dataset: pl.DataFrame) -> list[str]:
    """Columns a ranker may use: all but keys, label, position and provenance."""
    excluded = {
        "slice", "impression_id", "item_id", "user_id", "position", "propensity", "as_of", "label", "clicked",
        "interest_slice",
    }  # fmt: skip
    return [name for name in dataset.columns if name not in excluded]


def text_columns(columns: list[str]) -> list[str]:
    """The columns computed from text: interest score, text similarities, and their list-relative forms."""
    return [name for name in columns if name.startswith(("text_", "query_match", "query_past", INTEREST))]


def relative(frame: pl.DataFrame, columns: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    """Add `{column}_{form}`, Float32, for each form and each of its columns, computed within each impression.

    z is 0 for a single candidate and for equal values (equal to within 1e-5: finer differences are rounding).
    Shares are 0 where the sum is not positive. A missing value stays missing and is left out of mean, maximum and sum.
    """
    from features.catalogue.programs import OPERATIONS, compare_all

    group = frame["impression_id"].rank("dense").to_numpy()
    order = np.argsort(group, kind="stable")
    start = np.searchsorted(group[order], np.arange(1, group.max(initial=0) + 2))
    added = []
    for form, names in columns.items():
        for name in names:
            values = frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()[order]
            out = np.empty(values.size)
            compare_all(OPERATIONS.index(form), values, start, out)
            unsorted = np.empty(values.size, np.float32)
            unsorted[order] = out
            added.append(pl.Series(f"{name}_{form}", unsorted).fill_nan(None))
    return frame.with_columns(added)
