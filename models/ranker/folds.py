"""Time-ordered folds: fit on what came before, look at what came after."""

from datetime import datetime
from typing import NamedTuple

import polars as pl

from features.errors import ModelError
from models.ranking import require

_HELD_OUT = 0.2


class Fold(NamedTuple):
    """Two predicates on a ranking dataset's rows; nothing that is fitted on comes after what is held out."""

    fit: pl.Expr
    held_out: pl.Expr


def folds(dataset: pl.DataFrame, count: int) -> list[Fold]:
    """One fold for each of the last `count` slices that have an earlier one, oldest first.

    Each holds one slice out and fits on all before it. A dataset of one slice gives one fold: its last fifth
    of impressions by `as_of`. Raises ModelError for fewer than two impressions.
    """
    impressions = dataset["impression_id"].n_unique()
    if impressions < 2:
        raise ModelError(
            f"{impressions} impressions have both a better and a worse candidate; a ranker needs at least 2, "
            "and hundreds to be any good: widen ranker.window or the slices"
        )
    slices = dataset["slice"].unique().sort().to_list()
    if len(slices) > 1:
        return [Fold(pl.col("slice") < slice, pl.col("slice") == slice) for slice in slices[1:][-count:]]
    require(dataset, ("as_of",), "a ranker fitted on one slice")
    shown = dataset.group_by("impression_id").agg(pl.col("as_of").min()).sort("as_of", "impression_id")
    last = shown["impression_id"].tail(max(1, int(impressions * _HELD_OUT)))
    late = pl.col("impression_id").is_in(last.implode())
    return [Fold(~late, late)]


def held_from(lists: pl.DataFrame) -> datetime:
    """Where the stretch begins that one fold holds out: the last slice; of one slice the last fifth of its lists.

    `lists` has a row an impression: `slice, as_of`. Raises ModelError for fewer than two.
    """
    if lists.height < 2:
        raise ModelError(f"{lists.height} impressions: hold out one and fit on another, two at least")
    shown = lists.filter(pl.col("slice") == pl.col("slice").max())["as_of"].sort()
    first = 0 if lists["slice"].n_unique() > 1 else -max(1, int(shown.len() * _HELD_OUT))
    instant = shown[first]
    assert isinstance(instant, datetime)
    return instant
