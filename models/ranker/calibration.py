"""Ranking scores become click probabilities: an isotonic map fitted on scores of lists that were not learnt from.

The probability is that of a click on a candidate shown as the log showed it: positions are averaged over, in the
shares in which such scores stood at them. It is no probability of a click at one given position.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import ModelError


@dataclass(frozen=True)
class Calibration:
    """A never falling, piecewise linear map from `rank_score` to the probability of a click."""

    scores: tuple[float, ...]
    """Knots, rising; beyond the first and the last the map is flat."""
    probabilities: tuple[float, ...]
    """Its value at each knot, strictly between 0 and 1."""

    def probability(self, scores: pl.Series) -> pl.Series:
        """`click_probability` (Float64) of each score."""
        values = np.interp(scores.to_numpy(), self.scores, self.probabilities) if scores.len() else []
        return pl.Series("click_probability", values, dtype=pl.Float64)

    def as_json(self) -> dict[str, list[float]]:
        """The knots as JSON holds them."""
        return {"scores": list(self.scores), "probabilities": list(self.probabilities)}


def calibrate(scores: NDArray[np.float64], clicked: NDArray[np.bool_]) -> Calibration:
    """The map that fits `clicked` best among all that never fall (Zadrozny & Elkan, KDD 2002).

    `scores` must come from a model that did not learn from these candidates. Raises ModelError if there are none.
    """
    if not scores.size:
        raise ModelError("no scores to calibrate: hold out at least one list with candidates")
    from sklearn.isotonic import IsotonicRegression

    # No count of clicks proves that something never or always happens: the ends keep half a click's distance.
    edge = 0.5 / (scores.size + 1)
    fitted = IsotonicRegression(y_min=edge, y_max=1 - edge).fit(scores, clicked.astype(float))
    return Calibration(
        tuple(map(float, fitted.X_thresholds_)),
        tuple(map(float, fitted.y_thresholds_)),
    )


def restore(knots: Mapping[str, Any]) -> Calibration:
    """What `Calibration.as_json` gave. Raises KeyError, TypeError or ValueError for anything else."""
    scores, probabilities = (tuple(map(float, knots[name])) for name in ("scores", "probabilities"))
    if not scores or len(scores) != len(probabilities):
        raise ValueError(f"{len(scores)} scores and {len(probabilities)} probabilities are no calibration")
    return Calibration(scores, probabilities)
