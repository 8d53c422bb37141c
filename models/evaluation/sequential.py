"""Experiments that may be looked at every day: intervals and tests that stay valid at every look.

`difference` is a normal-mixture asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
"Time-uniform central limit theory and asymptotic confidence sequences", Annals of Statistics 2024, theorem 2.2). With
the estimate's standard error s, V = 1/s² is the information so far, and the interval at level 1 − α is

    estimate ± s · √((1 + η/V) · log((V + η) / (η·α²)))

η is chosen so that the interval is narrowest at the information that the smallest difference of interest needs. Users
are assigned, so users are the units: the standard error of a rate, a ratio of sums, is by the delta method over users
(Deng, Knoblich and Lu, KDD 2018).

`sample_ratio` tests the numbers of users by arm against the declared share with a beta mixture, whose inverse is a
p-value at every look (Lindon and Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.evaluation.intervals import Interval

Reals = NDArray[np.float64]
_PRIOR_USERS = 1000.0
"""Strength of the beta mixture around the declared share, in users: it is most sensitive to shifts of some percent."""
PLANNED = 7.85
"""(1.96 + 0.84)²: of the difference of interest, squared, times the information at which a fixed-horizon test with a
level of 5 % finds it with a power of 80 %."""


class Arm(NamedTuple):
    """Sums of each user of an arm, from the experiment's start."""

    amount: Reals
    """Clicks, for a click rate."""
    base: Reals
    """Positions shown, for a click rate; ones for a mean per user."""

    def rate(self) -> tuple[float, float]:
        """The ratio of sums, and its standard error; infinite for fewer than two users."""
        users, total = self.amount.size, self.base.sum()
        if users < 2 or not total:
            return 0.0, math.inf
        rate = float(self.amount.sum() / total)
        squares = float(((self.amount - rate * self.base) ** 2).sum())
        return rate, math.sqrt(squares * users / (users - 1)) / float(total)


def difference(challenger: Arm, champion: Arm, min_lift: float, alpha: float = 0.05) -> Interval:
    """Challenger's rate − champion's, and its interval, valid at all looks together; infinite without variation.

    `min_lift`: the smallest difference of interest, relative to the champion's rate.
    """
    (new, new_error), (old, old_error) = challenger.rate(), champion.rate()
    variance = new_error**2 + old_error**2
    if not (0 < variance < math.inf and old > 0):
        return Interval(new - old, -math.inf, math.inf)
    half = math.sqrt(variance * _boundary(1 / variance, min_lift * old, alpha))
    return Interval(new - old, new - old - half, new - old + half)


def sample_ratio(challenger: int, champion: int, share: float) -> float:
    """P-value, valid at all looks together, of the users by arm if `share` of them were assigned to the challenger."""
    a, b = _PRIOR_USERS * share, _PRIOR_USERS * (1 - share)
    log_beta = (
        math.lgamma(a + challenger) + math.lgamma(b + champion) - math.lgamma(a + b + challenger + champion)
    )
    log_prior = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    log_null = challenger * math.log(share) + champion * math.log(1 - share)
    return min(1.0, math.exp(min(0.0, log_null - (log_beta - log_prior))))


def _boundary(information: float, least: float, alpha: float) -> float:
    """Squared half-width in standard errors."""
    wanted = PLANNED / least**2
    spread = wanted / (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1))
    return (1 + spread / information) * math.log((information + spread) / (spread * alpha**2))
