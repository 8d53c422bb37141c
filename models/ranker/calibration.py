"""Calibration: an isotonic map from rank scores to click probabilities, fitted on held-out impressions.

The probability averages over positions as the log distributed them for such scores; it is not the probability of a
click at a given position.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import ModelError


@dataclass(frozen=True)
class Calibration:
    """A non-decreasing, piecewise linear map from `rank_score` to click probability."""

    scores: tuple[float, ...]
    """Knots in ascending order; the map is constant outside them."""
    probabilities: tuple[float, ...]
    """The probability at each knot, strictly between 0 and 1."""

    def probability(self, scores: pl.Series) -> pl.Series:
        """`click_probability` (Float64) of each score."""
        values = np.interp(scores.to_numpy(), self.scores, self.probabilities) if scores.len() else []
        return pl.Series("click_probability", values, dtype=pl.Float64)


def calibrate(scores: NDArray[np.float64], clicked: NDArray[np.bool_]) -> Calibration:
    """Fit `clicked` by isotonic regression (Zadrozny & Elkan, KDD 2002).

    `scores` must come from a model that was not fitted on these candidates. Raises ModelError if there are none.
    """
    if not scores.size:
        raise ModelError("no scores to calibrate: hold out at least one impression")
    from sklearn.isotonic import IsotonicRegression

    # Probabilities stay half a click away from 0 and 1: finite data prove neither.
    edge = 0.5 / (scores.size + 1)
    fitted = IsotonicRegression(y_min=edge, y_max=1 - edge).fit(scores, clicked.astype(float))
    return Calibration(tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist()))
