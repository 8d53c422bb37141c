"""Sampling of whole impressions, for windows with more candidates than one process can fit on."""

import polars as pl

from models.ranking import require, stable_hash


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
