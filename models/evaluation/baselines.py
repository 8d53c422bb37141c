"""Scorers that learn nothing, evaluated exactly like the ranker: what a model must beat to be worth its keep."""

import numpy as np
import polars as pl

from features.behaviour import read_features
from features.config.project import Project
from features.ranking_dataset import KEYS
from features.schemas import ItemVectors
from features.state import MomentState, SliceEvents
from models.ranking import require, stable_hash

POSITION = "position"
POPULARITY = "item_clicks_all"
"""Clicks of an item so far, never forgotten."""
AGE = "item_age_hours"
BASELINES = ("as_shown", "random", "popularity", "recency")
"""Names of the baselines, as the scorers of an evaluation."""

_OLDEST_HOURS = 1e9
"""Age of an item whose age nobody knows: older than anything."""


def measure(state: MomentState, events: SliceEvents, project: Project) -> pl.DataFrame:
    """`impression_id`, `item_id` and the features that baselines order by, whatever `features.select` leaves out.

    A row a candidate, read as `features.behaviour.read_features` reads the project's own.
    """
    wanted = project.features.model_copy(update={"select": (POPULARITY, AGE), "relative": ()})
    alone = project.model_copy(update={"features": wanted})
    return read_features(state, events, alone, ItemVectors.create_empty())


def scores(dataset: pl.DataFrame, measured: pl.DataFrame, seed: int) -> pl.DataFrame:
    """`impression_id`, `item_id` and one Float64 column per baseline, higher is better, rows as in `dataset`.

    `dataset` is a ranking dataset, of which `position` is read (as shown: first is best); `measured` what `measure`
    gives: `item_clicks_all` (popularity: clicks so far) and `item_age_hours` (recency: newest is best; null is
    oldest). `random` is a seeded hash of impression and item, in [0, 1). Raises TableError where a column is missing.
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
    """Reproducible numbers in [0, 1) from two ids: their hashes, mixed by the finaliser of SplitMix64."""
    mixed = stable_hash(impressions, seed).to_numpy() ^ stable_hash(items, seed).to_numpy()
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed = mixed ^ (mixed >> np.uint64(31))
    return pl.Series((mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53)
