"""Baselines: scorers that learn nothing, evaluated like the ranker."""

import numpy as np
import polars as pl

from features.behaviour import measure, plan_of
from features.ranking_dataset import KEYS
from features.schemas import ItemVectors
from features.state import MomentState, SliceEvents
from models.ranking import require, stable_hash

POSITION = "position"
POPULARITY = "item_clicks_all"
"""An item's clicks so far, without decay."""
AGE = "item_age_hours"
BASELINES = ("as_shown", "random", "popularity", "recency")
"""The baselines' names as scorers."""

_OLDEST_HOURS = 1e9
"""Age of an item of unknown age: older than any other."""


def lookup(state: MomentState, events: SliceEvents) -> pl.DataFrame:
    """One row per candidate: `impression_id`, `item_id` and the features that baselines read.

    They are computed as the project's own features, whether or not `features.select` includes them.
    """
    features = state.config.features.model_copy(update={"select": (POPULARITY, AGE), "relative": ()})
    plan = plan_of(state.config.model_copy(update={"features": features}))
    return measure(state, events, ItemVectors.create_empty(), plan)


def scores(dataset: pl.DataFrame, measured: pl.DataFrame, seed: int) -> pl.DataFrame:
    """`impression_id`, `item_id` and one Float64 column per baseline, higher is better, rows as in `dataset`.

    `as_shown` prefers the first `position` of `dataset`, a ranking dataset. `measured` is the result of `lookup`:
    `popularity` prefers the largest `item_clicks_all`, `recency` the smallest `item_age_hours` (null is oldest).
    `random` is a seeded hash of impression and item, in [0, 1). Raises TableError if a column is missing.
    """
    require(dataset, (*KEYS, POSITION), "baselines")
    require(measured, (*KEYS, POPULARITY, AGE), "baselines")
    dataset = dataset.select(*KEYS, POSITION).join(measured, on=KEYS, how="left", maintain_order="left")
    return dataset.select(
        "impression_id",
        "item_id",
        as_shown=-pl.col(POSITION).cast(pl.Float64),
        random=_uniform(dataset["impression_id"], dataset["item_id"], seed),
        popularity=pl.col(POPULARITY).cast(pl.Float64).fill_null(0.0),
        recency=-pl.col(AGE).cast(pl.Float64).fill_nan(None).fill_null(_OLDEST_HOURS),
    )


def _uniform(impressions: pl.Series, items: pl.Series, seed: int) -> pl.Series:
    """Reproducible numbers in [0, 1) from two ids: their hashes, mixed with SplitMix64's finaliser."""
    mixed = stable_hash(impressions, seed).to_numpy() ^ stable_hash(items, seed).to_numpy()
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed = mixed ^ (mixed >> np.uint64(31))
    return pl.Series((mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53)
