"""Anomalies: figures far from those of the slices before, by median and MAD, which one outlier barely moves."""

from collections.abc import Mapping, Sequence

import polars as pl

_MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution, in median absolute deviations."""
_MIN_RELATIVE_SPREAD = 0.05
"""Lower bound of the spread, as a share of the median: nearly equal slices may be so by chance."""


def robust_z(history: Sequence[float], value: float, noise: float = 0.0) -> float:
    """Robust z-score of `value`: (value − median) / spread of `history`.

    The spread is at least `noise` and at least 5 % of the median. If it is 0, the score is 0 or infinite.
    """
    values = pl.Series(history, dtype=pl.Float64)
    median = float(values.median() or 0.0)  # type: ignore[arg-type]
    deviation = _MAD_TO_SD * float((values - median).abs().median() or 0.0)  # type: ignore[arg-type]
    spread = max(deviation, noise, _MIN_RELATIVE_SPREAD * abs(median))
    if not spread:
        return 0.0 if value == median else float("inf")
    return (value - median) / spread


def anomalies(
    values: Mapping[str, float],
    evaluated: Sequence[str],
    limit: float,
    trailing: int,
    min_history: int,
    noise: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Slice → robust z-score of the `evaluated` slices whose |z| against the `trailing` slices before exceeds `limit`.

    Slices with fewer than `min_history` slices before them are skipped.
    """
    scores = {}
    for key in evaluated:
        history = [value for other, value in sorted(values.items()) if other < key][-trailing:]
        if key in values and len(history) >= min_history:
            z = robust_z(history, values[key], (noise or {}).get(key, 0.0))
            if abs(z) > limit:
                scores[key] = z
    return scores


def click_noise(rate: float, exposures: int) -> float:
    """Binomial standard deviation of a click rate."""
    return float((max(rate * (1 - rate), 0.0) / max(exposures, 1)) ** 0.5)


def cosine_distance(left: pl.Series, right: pl.Series) -> float:
    """1 − cosine of two vectors of equal length; 0 if either is zero."""
    norms = float((left**2).sum()) ** 0.5 * float((right**2).sum()) ** 0.5
    return 1.0 - float((left * right).sum()) / norms if norms else 0.0
