"""Features relative to the other candidates of the same impression."""

from collections.abc import Sequence

import polars as pl

FORMS = {
    "z": "how many standard deviations above the list's mean",
}
"""Suffix of a relative form, and what it means."""


def relative(frame: pl.DataFrame, columns: Sequence[str], by: str = "impression_id") -> pl.DataFrame:
    """Adds `{column}_z` for each column, Float32, within each group of `by`.

    A list of one, or of equal values, has z 0; a missing value stays missing. Values are equal where they
    differ in the sixth figure or later: Float32 and the order of sums decide what stands there.
    """
    return frame.with_columns(
        *(_z(pl.col(c), by).cast(pl.Float32).alias(f"{c}_z") for c in columns),
    )


def _z(value: pl.Expr, by: str) -> pl.Expr:
    spread = value.std(ddof=0).over(by)
    noise = 1e-5 * value.abs().max().over(by)
    return pl.when(spread > noise).then((value - value.mean().over(by)) / spread).otherwise(value * 0.0)
