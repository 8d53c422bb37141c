"""Time-ordered folds: fit on earlier slices, validate on later ones."""

from datetime import datetime
from typing import NamedTuple

import polars as pl

from features.errors import ModelError
from models.ranking import require

_HELD_OUT = 0.2


class Fold(NamedTuple):
    """Two predicates on the rows of a ranking dataset; rows to fit on are earlier than those held out."""

    fit: pl.Expr
    held_out: pl.Expr


def folds(dataset: pl.DataFrame, count: int) -> list[Fold]:
    """One fold for each of the last `count` slices that have an earlier one, oldest first.

    A fold holds out one slice and fits on all earlier ones. A dataset of one slice gives one fold, which holds out
    the last fifth of its impressions by `as_of`. Raises ModelError for fewer than two impressions.
    """
    impressions = dataset["impression_id"].n_unique()
    if impressions < 2:
        raise ModelError(
            f"{impressions} impressions have both a better and a worse candidate; a ranker needs at least 2, "
            "and hundreds to be useful: increase ranker.window or the length of slices"
        )
    slices = dataset["slice"].unique().sort().to_list()
    if len(slices) > 1:
        return [Fold(pl.col("slice") < slice, pl.col("slice") == slice) for slice in slices[1:][-count:]]
    require(dataset, ("as_of",), "a ranker fitted on one slice")
    by_time = dataset.group_by("impression_id").agg(pl.col("as_of").min()).sort("as_of", "impression_id")
    last = by_time["impression_id"].tail(max(1, int(impressions * _HELD_OUT)))
    held_out = pl.col("impression_id").is_in(last.implode())
    return [Fold(~held_out, held_out)]


def held_from(impressions: pl.DataFrame) -> datetime:
    """The first instant that a single fold holds out: the last slice, or the last fifth of a single slice.

    `impressions` has one row each: `slice, as_of`. Raises ModelError for fewer than two.
    """
    if impressions.height < 2:
        raise ModelError(
            f"found {impressions.height} impressions; a ranker needs at least 2: one to fit on and one to hold out"
        )
    instants = impressions.filter(pl.col("slice") == pl.col("slice").max())["as_of"].sort()
    first = 0 if impressions["slice"].n_unique() > 1 else -max(1, int(instants.len() * _HELD_OUT))
    instant = instants[first]
    assert isinstance(instant, datetime)
    return instant
