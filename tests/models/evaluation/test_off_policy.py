import numpy as np
import polars as pl
import pytest

from features.errors import ModelError
from features.exploration import explore
from models.evaluation.off_policy import estimate

SIZE, K = 4, 2
ATTRACTION = np.array([0.1, 0.2, 0.4, 0.6])
EXAMINED = np.array([1.0, 0.7, 0.5, 0.3])
SCORES = np.array([1.0, 0.0, 3.0, 2.0])
TRUTH = (0.4 * 1.0 + 0.6 * 0.7) / K
"""Click rate of the first two positions if the items are ranked by SCORES."""


def _log(seed: int, impressions: int = 400, model: float = 0.5) -> pl.DataFrame:
    """A log that explores; `model` is what the ranker predicts of every item."""
    random = np.random.default_rng(seed)
    lists = [explore(SIZE, 0.6, SIZE, random) for _ in range(impressions)]
    item, propensity = (np.concatenate(column) for column in zip(*lists, strict=True))
    click = ATTRACTION[item] * np.tile(EXAMINED, impressions)
    return pl.DataFrame(
        {
            "impression_id": np.repeat(np.arange(impressions), SIZE).astype(str),
            "user_id": np.repeat(np.arange(impressions) % 60, SIZE).astype(str),
            "item_id": item.astype(str),
            "position": np.tile(np.arange(1, SIZE + 1), impressions).astype(np.int32),
            "propensity": propensity,
            "clicked": random.random(item.size) < click,
            "score": SCORES[item],
            "click_probability": np.full(item.size, model),
        }
    )


@pytest.mark.parametrize("model", [0.5, 0.01])
def test_estimates_are_unbiased_whatever_the_model_says(model: float) -> None:
    found = [estimate(_log(seed, model=model), K, resamples=50) for seed in range(25)]
    rates = {name: [dict(f.table.select("estimator", "click_rate").iter_rows())[name] for f in found]
             for name in ("logged", "ips", "snips", "dr")}  # fmt: skip
    for name in ("ips", "snips", "dr"):
        standard_error = np.std(rates[name]) / np.sqrt(len(found))
        assert np.mean(rates[name]) == pytest.approx(TRUTH, abs=3 * standard_error), name
    assert np.mean(rates["logged"]) < 0.7 * TRUTH
    assert np.mean([f.overlap.mean for f in found]) == pytest.approx(1, abs=0.02)


def test_impressions_without_propensities_are_left_out() -> None:
    log = _log(1)
    unknown = (
        pl.when(pl.col("impression_id") == "7", pl.col("position") == 3).then(None).otherwise("propensity")
    )
    found = estimate(log.with_columns(propensity=unknown), K)
    assert (found.impressions, found.without_propensity) == (399, 1)


@pytest.mark.parametrize(
    ("propensity", "message"),
    [
        (pl.lit(None, pl.Float64), r"0 of 1600 candidates have a propensity.*\[exploration\] share"),
        (pl.lit(1.0), "none of these is below 1"),
        # As logged by a ranker that never shows the best item first.
        (pl.when(position=1, item_id="2").then(0.9999).otherwise(1.0), "overlap too little.*mean weight"),
    ],
)
def test_a_log_that_cannot_say_is_refused(propensity: pl.Expr, message: str) -> None:
    log = _log(1).with_columns(propensity=propensity)
    with pytest.raises(ModelError, match=message):
        estimate(log, K)
