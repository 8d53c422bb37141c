"""Baselines: scorers that learn nothing, evaluated like the ranker."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from features.behaviour import measure, plan_of
from features.config.extensions import extended
from features.config.sections import Evaluation
from features.ranking_dataset import KEYS
from features.schemas import ItemVectors
from features.state import MomentState, SliceEvents
from models.ranking import require, stable_hash

_WORST = -1e9
"""Score of a candidate whose baseline is unknown, such as an item of unknown age."""


@dataclass(frozen=True)
class Baseline:
    """A scorer that learns nothing."""

    score: Callable[[pl.DataFrame, int], pl.Series]
    """Rows of a ranking dataset with `features`, and a seed → a score per row; higher is better, null is worst."""
    features: tuple[str, ...] = ()
    """Names of the catalogue's features that it reads."""


def _random(rows: pl.DataFrame, seed: int) -> pl.Series:
    return _uniform(rows["impression_id"], rows["item_id"], seed)


BASELINES: Mapping[str, Baseline] = {
    "as_shown": Baseline(lambda rows, _: -rows["position"].cast(pl.Float64)),
    "random": Baseline(_random),
    "popularity": Baseline(lambda rows, _: rows["item_clicks_all"].fill_null(0.0), ("item_clicks_all",)),
    "recency": Baseline(lambda rows, _: -rows["item_age_hours"], ("item_age_hours",)),
}
"""The built-in baselines: displayed order, a seeded hash of impression and item, most clicks so far, newest first.

Those of `evaluation.baselines` come after them.
"""


def baselines_of(config: Evaluation) -> dict[str, Baseline]:
    """The built-in baselines and the project's own, by name."""
    return extended(BASELINES, config.baselines, Baseline, "evaluation.baselines")


def lookup(
    state: MomentState, events: SliceEvents, baselines: Mapping[str, Baseline] = BASELINES
) -> pl.DataFrame:
    """One row per candidate: `impression_id`, `item_id` and the features that baselines read.

    They are computed as the project's own features, whether or not `features.select` includes them.
    """
    names = dict.fromkeys(name for baseline in baselines.values() for name in baseline.features)
    features = state.config.features.model_copy(update={"select": (*names,), "relative": ()})
    plan = plan_of(state.config.model_copy(update={"features": features}))
    return measure(state, events, ItemVectors.create_empty(), plan)


def scores(
    dataset: pl.DataFrame, measured: pl.DataFrame, seed: int, baselines: Mapping[str, Baseline] = BASELINES
) -> pl.DataFrame:
    """`impression_id`, `item_id` and one Float64 column per baseline, rows as in `dataset`.

    `dataset` is a ranking dataset, `measured` the result of `lookup`. Raises TableError if a column is missing.
    """
    require(dataset, (*KEYS, "position"), "baselines")
    require(
        measured,
        (*KEYS, *(name for baseline in baselines.values() for name in baseline.features)),
        "baselines",
    )
    rows = dataset.select(*KEYS, "position").join(measured, on=KEYS, how="left", maintain_order="left")
    columns = {
        name: baseline.score(rows, seed).cast(pl.Float64).fill_nan(None).fill_null(_WORST)
        for name, baseline in baselines.items()
    }
    return rows.select(KEYS).with_columns(**columns)


def _uniform(impressions: pl.Series, items: pl.Series, seed: int) -> pl.Series:
    """Reproducible numbers in [0, 1) from two ids: their hashes, mixed with SplitMix64's finaliser."""
    mixed = stable_hash(impressions, seed).to_numpy() ^ stable_hash(items, seed).to_numpy()
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed = mixed ^ (mixed >> np.uint64(31))
    return pl.Series((mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53)
