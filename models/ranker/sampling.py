"""Whole lists drawn at random, where a window has more candidates than one process fits on."""

import polars as pl

from models.ranking import require, stable_hash


def draw(lists: pl.DataFrame, candidates: int, seed: int) -> pl.DataFrame:
    """Lists with at most so many candidates together, of every slice its share: rows of `lists`.

    `lists` has a row a list: `slice, impression_id, candidates` (how many it has). Which are drawn is a matter of
    a hash of id and seed: the same whatever the order of rows, and on every machine.
    """
    require(lists, ("slice", "impression_id", "candidates"), "the draw of lists")
    share = candidates / max(1, int(lists["candidates"].sum()))
    drawn = lists.with_columns(draw=stable_hash(lists["impression_id"], seed)).sort(
        "slice", "draw", "impression_id"
    )
    count = pl.col("candidates").cast(pl.Int64)
    within = count.cum_sum().over("slice") <= count.sum().over("slice") * min(1.0, share)
    return drawn.filter(within).drop("draw")
