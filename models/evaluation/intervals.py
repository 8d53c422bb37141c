"""Percentile bootstrap intervals over impressions (Efron 1979).

The same size and seed give the same resamples, so intervals of differences between scorers are paired.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

_CELLS = 4_000_000
"""Most numbers in memory per block of resamples (32 MB)."""


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval; NaN if nothing was evaluated."""

    mean: float
    low: float
    high: float


NOTHING = Interval(float("nan"), float("nan"), float("nan"))
"""The interval if nothing was evaluated."""


def mean_intervals(
    columns: NDArray[np.float64], seed: int, resamples: int, confidence: float
) -> list[Interval]:
    """Mean and percentile interval of each column of [impression, column]; all columns share the resamples."""
    if not columns.shape[0]:
        return [NOTHING] * columns.shape[1]
    means = np.concatenate(
        [weights @ columns / columns.shape[0] for weights in draws(columns.shape[0], seed, resamples)]
    )
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return [Interval(*map(float, ends)) for ends in zip(columns.mean(axis=0), low, high, strict=True)]


def interval_of(value: float, resampled: NDArray[np.float64], confidence: float) -> Interval:
    """A statistic and the interval of its resampled values, without NaN."""
    known = resampled[~np.isnan(resampled)]
    if not known.size:
        return Interval(value, np.nan, np.nan)
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))


def resampled_auc(scored: pl.DataFrame, seed: int, resamples: int) -> NDArray[np.float64]:
    """[resample]: pooled AUC of each resample; NaN if one class is missing.

    `scored`: `impression_id`, `label`, `score`. Impressions are resampled, because their rows are not independent.
    """
    rows = scored.select(
        pl.col("impression_id").rank("dense").cast(pl.Int64) - 1, pl.col("label") > 0, "score"
    ).sort("score", "impression_id")
    impression, positive = rows["impression_id"].to_numpy(), rows["label"].to_numpy()
    score = rows["score"].cast(pl.Float64).to_numpy()
    below = np.searchsorted(score[~positive], score[positive], side="left")
    up_to = np.searchsorted(score[~positive], score[positive], side="right")
    negatives, positives = impression[~positive], impression[positive]
    others = np.zeros(negatives.size + 1)
    aucs: list[float] = []
    for weights in draws(int(impression.max()) + 1, seed, resamples):
        for weight in weights:
            np.cumsum(weight[negatives], out=others[1:])
            drawn = weight[positives]
            # Not `@`: the threads of BLAS spin while they wait for each other.
            won = (drawn * (others[below] + others[up_to])).sum() / 2
            pairs = drawn.sum() * others[-1]
            aucs.append(won / pairs if pairs else np.nan)
    return np.array(aucs, dtype=np.float64)


def draws(size: int, seed: int, resamples: int) -> Iterator[NDArray[np.float64]]:
    """Blocks of [resample, impression]: how often each impression is drawn; `resamples` rows in all."""
    random = np.random.default_rng(seed)
    block = max(1, _CELLS // size)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = random.integers(0, size, (rows, size)) + np.arange(rows)[:, None] * size
        yield np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)
