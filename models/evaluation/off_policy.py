"""Off-policy estimates: the click rate that a ranker would have had on logged traffic.

The logging policy drew positions at random and logged the propensity of each item at its position. The target policy
ranks the same items by a score. Its policy value is the click rate of the first `k` positions. With the weight
w = [the target ranks the item at its logged position] / propensity, n positions and the direct model q, the ranker's
click probability times a factor by position:

    ips     Σ w · clicked / n                                        unbiased
    snips   Σ w · clicked / Σ w                                      self-normalised: Swaminathan and Joachims 2015
    direct  Σ q(item at its target rank) / n                         as good as the model
    dr      direct + Σ w · (clicked − q(item at its position)) / n   doubly robust: Dudík, Langford and Li 2011

The weights are those of the item-position model (Li et al., KDD 2018): a click may depend on user, item and position,
but not on the other items of the list. Intervals resample users, because a user's impressions are not independent.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from features.errors import ModelError
from models.evaluation.intervals import Interval, draws, interval_of
from models.ranking import order, require

ESTIMATORS = ("logged", "ips", "snips", "direct", "dr", "gain")
"""`logged` is the log's own click rate, `gain` is dr − logged."""
MIN_EFFECTIVE = 30.0
MIN_OVERLAP = 0.8
_COLUMNS = (
    "impression_id", "user_id", "item_id", "position", "propensity", "clicked", "score", "click_probability",
)  # fmt: skip


class OffPolicy(NamedTuple):
    """Estimates of a target policy's click rate, and what they rest on."""

    table: pl.DataFrame
    """`estimator, click_rate, low, high`, one row of each of ESTIMATORS."""
    impressions: int
    without_propensity: int
    """Impressions left out, because an item of theirs has no propensity."""
    effective: float
    """Effective sample size, (Σ w)² / Σ w²: as many positions of the target's own would say as much."""
    largest_weight: float
    overlap: Interval
    """Mean weight: 1 if the logging policy could show everything that the target shows."""


def estimate(
    log: pl.DataFrame, k: int, *, seed: int = 1, resamples: int = 1000, confidence: float = 0.95
) -> OffPolicy:
    """Estimate the click rate of the first `k` positions, had `log` been ranked by its `score`.

    `log`: one row per candidate, `impression_id, user_id, item_id, position, propensity, clicked, score,
    click_probability`. Raises ModelError where the log cannot say: no propensities, or no overlap.
    """
    require(log, _COLUMNS, "an off-policy estimate")
    known = log.filter(pl.col("propensity").is_not_null().all().over("impression_id"))
    if not (known["propensity"] < 1).any():
        raise ModelError(
            f"{known.height} of {log.height} candidates have a propensity, and none of these is below 1: the log does "
            "not say what another ranker would have had. Let the service explore ([exploration] share = 0.05), or "
            "name the log's own propensities in source.tables.propensity"
        )
    users = _sums(known, k)
    sums = users.drop("user_id", "largest").to_numpy()
    total, resampled = sums.sum(axis=0), np.concatenate([w @ sums for w in draws(len(sums), seed, resamples)])
    values, spread = _values(total), _values(resampled.T)
    rows = [(name, *interval_of(float(values[name]), spread[name], confidence)) for name in ESTIMATORS]
    weight, squared = float(users["weight"].sum()), float(users["squared"].sum())
    found = OffPolicy(
        pl.DataFrame(rows, ["estimator", "click_rate", "low", "high"], orient="row"),
        known["impression_id"].n_unique(),
        log["impression_id"].n_unique() - known["impression_id"].n_unique(),
        weight**2 / squared if squared else 0.0,
        float(users["largest"].max()),  # type: ignore[arg-type]
        interval_of(float(values["overlap"]), spread["overlap"], confidence),
    )
    if found.effective < MIN_EFFECTIVE or found.overlap.high < MIN_OVERLAP:
        raise ModelError(
            f"the log and the ranker overlap too little: effective sample size {found.effective:.0f}, at least "
            f"{MIN_EFFECTIVE:.0f} is needed; mean weight {found.overlap.mean:.2f}, about 1 is expected. Wait for more "
            "traffic, or raise exploration.share or exploration.near_best"
        )
    return found


def _sums(log: pl.DataFrame, k: int) -> pl.DataFrame:
    """Each user's sums over candidates, one column per term of the estimators, and its `largest` weight."""
    clicks, predicted = pl.col("clicked").sum(), pl.col("click_probability").sum()
    factors = log.group_by("position").agg(factor=clicks / predicted)
    rows = (
        order(log.select(_COLUMNS))
        .join(factors, on="position", how="left")
        .join(factors.rename({"position": "rank", "factor": "rank_factor"}), on="rank", how="left")
    )
    shown, clicked = pl.col("position") <= k, pl.col("clicked").cast(pl.Float64)
    weight = (
        pl.when(shown & (pl.col("rank") == pl.col("position"))).then(1 / pl.col("propensity")).otherwise(0.0)
    )
    modelled = pl.col("click_probability") * pl.col("factor")
    moved = pl.when(pl.col("rank") <= k).then(
        pl.col("click_probability") * pl.col("rank_factor").fill_null(1.0)
    )
    return (
        rows.group_by("user_id")
        .agg(
            n=shown.sum().cast(pl.Float64),
            clicks=(clicked * shown).sum(),
            weight=weight.sum(),
            squared=(weight**2).sum(),
            weighted=(weight * clicked).sum(),
            direct=moved.sum(),
            correction=(weight * (clicked - modelled)).sum(),
            largest=weight.max(),
        )
        .sort("user_id")
    )


def _values(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Each estimate, and the overlap, from the columns of `_sums` (along the first axis)."""
    n, clicks, weight, _, weighted, direct, correction = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {
            "logged": clicks / n,
            "ips": weighted / n,
            "snips": weighted / weight,
            "direct": direct / n,
            "dr": (direct + correction) / n,
            "overlap": weight / n,
        }
    return found | {"gain": found["dr"] - found["logged"]}
