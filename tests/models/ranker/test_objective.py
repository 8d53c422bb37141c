from typing import Any

import numpy as np
import polars as pl
import pytest

from features.config.sections import Labels
from features.config.sections import Ranker as Settings
from features.errors import ModelError
from models.evaluation.metrics import MetricSet, pooled_auc
from models.ranker import fit
from models.ranker.objective import BINARY, LAMBDARANK, REGRESSION, choose_objective

SETTINGS = Settings(
    num_iterations=60, early_stopping_round=15, num_leaves=7, min_data_in_leaf=10, learning_rate=0.1
)


def _single(levels: tuple[float, ...] = (1.0,), count: int = 900, seed: int = 0) -> pl.DataFrame:
    """Impressions of one candidate whose label grows with `item_ctr`."""
    random = np.random.default_rng(seed)
    taste = random.normal(size=count).astype(np.float32)
    level = np.clip(np.round((taste + random.normal(0, 0.5, count)) * len(levels)), 0, len(levels)).astype(
        int
    )
    return pl.DataFrame(
        {
            "slice": [f"2026-01-{5 + n * 3 // count:02}" for n in range(count)],
            "impression_id": [f"i{n:04}" for n in range(count)],
            "item_id": [f"a{n % 50}" for n in range(count)],
            "position": pl.Series([1] * count, dtype=pl.Int32),
            "label": np.array([0.0, *levels])[level],
            "item_ctr": taste,
            "noise": random.normal(size=count).astype(np.float32),
        }
    )


def _fit(dataset: pl.DataFrame, labels: Labels) -> Any:
    return fit(dataset, ("item_ctr", "noise"), SETTINGS, labels, seed=1)


def test_the_objective_follows_from_candidates_and_labels() -> None:
    single = _single()
    pair = single.with_columns(impression_id=pl.col("impression_id").str.head(4))
    assert choose_objective(MetricSet.of(single), {0.0, 1.0}) == BINARY
    assert choose_objective(MetricSet.of(single), {0.0, 1.0, 3.0}) == REGRESSION
    assert choose_objective(MetricSet.of(pair), {0.0, 1.0}) == LAMBDARANK
    with pytest.raises(ModelError, match=r"every impression has one candidate and the label 1; .*threshold"):
        choose_objective(MetricSet.of(single), {1.0})


@pytest.mark.parametrize("levels", [(1.0,), (1.0, 2.0, 5.0)])
def test_single_candidates_are_learnt_and_scored(levels: tuple[float, ...]) -> None:
    gains = Labels(gains={f"kind{level:g}": level for level in levels})
    ranker, unseen = _fit(_single(levels), gains), _single(levels, seed=5)
    scored = unseen.with_columns(score=ranker.score(unseen))
    assert (pooled_auc(scored) or 0) > 0.8
    assert ranker.info["objective"] == ("binary" if len(levels) == 1 else "regression")
    probability = ranker.probability(scored["score"])
    assert abs(probability.mean() - (unseen["label"] > 0).mean()) < 0.06
    total = ranker.contributions(unseen).select(pl.sum_horizontal(pl.all())).to_series()
    assert total.to_numpy() == pytest.approx(scored["score"].to_numpy(), abs=1e-6)
