"""Scorers that learn nothing, judged exactly like the ranker: what a model must beat to be worth its keep."""

import numpy as np
import polars as pl

from models.ranking import require, stable_hash

POSITION = "position"
POPULARITY = "item_clicks_all"
"""Clicks of an item so far, never forgotten: needs "none" among the project's features.half_lives."""
AGE = "item_age_hours"
BASELINES = ("as_shown", "random", "popularity", "recency")
"""Names of the baselines, as the scorers of an evaluation."""

_OLDEST_HOURS = 1e9
"""Age of an item whose age nobody knows: older than anything."""


def scores(dataset: pl.DataFrame, seed: int) -> pl.DataFrame:
    """`impression_id`, `item_id` and one Float64 column per baseline, higher is better, rows as in `dataset`.

    `dataset` is a ranking dataset: `position` (as shown: first is best), `item_clicks_all` (popularity:
    clicks so far) and `item_age_hours` (recency: newest is best; null is oldest). `random` is a seeded hash
    of impression and item, in [0, 1). Raises TableError where a column is missing.
    """
    require(dataset, ("impression_id", "item_id", POSITION, POPULARITY, AGE), "baselines")
    return dataset.select(
        "impression_id",
        "item_id",
        as_shown=-pl.col(POSITION).cast(pl.Float64),
        random=_uniform(dataset["impression_id"], dataset["item_id"], seed),
        popularity=pl.col(POPULARITY).cast(pl.Float64).fill_null(0.0),
        recency=-pl.col(AGE).cast(pl.Float64).fill_nan(None).fill_null(_OLDEST_HOURS),
    )


def _uniform(impressions: pl.Series, items: pl.Series, seed: int) -> pl.Series:
    """Reproducible numbers in [0, 1) from two ids: their hashes, mixed by the finaliser of SplitMix64."""
    mixed = stable_hash(impressions, seed).to_numpy() ^ stable_hash(items, seed).to_numpy()
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed = mixed ^ (mixed >> np.uint64(31))
    return pl.Series((mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53)
