"""Measure experiments that are looked at every day: false positives of A/A runs, impressions until an A/B is decided.

`python tests/benchmarks/sequential.py [RUNS]`. Users come back with their own click rates; the challenger has
half of them, or a tenth. The same runs with a fixed-horizon test at every look are printed for comparison.
"""

import math
import sys
from typing import NamedTuple

import numpy as np

from models.evaluation.sequential import PLANNED, Arm, difference, sample_ratio

USERS, LIST, RATE = 4000, 10, 0.12
ALPHA = 0.05


class Run(NamedTuple):
    """Figures of each daily look."""

    impressions: list[int]
    decided: list[int]
    """-1, 0 or 1: the interval is below, around or above 0."""
    peeked: list[bool]
    """Whether a fixed-horizon test would reject at this look."""
    ratio: list[bool]
    """Whether the sample-ratio check rejects."""
    information: list[float]
    covered: list[bool]


def run(seed: int, lift: float, planned: float, share: float, days: int) -> Run:
    """Simulate an experiment whose challenger has `1 + lift` times the click rate."""
    random = np.random.default_rng(seed)
    treated = random.random(USERS) < share
    activity = 0.3 * random.lognormal(-0.5, 1.0, USERS)
    rate = random.beta(4, 4 / RATE - 4, USERS) * np.where(treated, 1 + lift, 1)
    clicks, shown = np.zeros(USERS), np.zeros(USERS)
    seen = Run([], [], [], [], [], [])
    for _ in range(days):
        lists = random.poisson(activity)
        shown += lists * LIST
        clicks += random.binomial(lists * LIST, np.minimum(rate, 1))
        came = shown > 0
        arms = [Arm(clicks[came & arm], shown[came & arm]) for arm in (treated, ~treated)]
        found = difference(*arms, planned, ALPHA)
        error = math.hypot(*(arm.rate()[1] for arm in arms))
        seen.impressions.append(int(shown.sum() / LIST))
        seen.decided.append(int(found.low > 0) - int(found.high < 0))
        seen.peeked.append(abs(found.mean) > 1.96 * error)
        seen.ratio.append(
            sample_ratio(int((came & treated).sum()), int((came & ~treated).sum()), share) < ALPHA
        )
        seen.information.append(1 / error**2)
        seen.covered.append(found.low <= RATE * lift <= found.high)
    return seen


def main(runs: int) -> None:
    """Print false positives, then the sizes of decided experiments."""
    for share in (0.5, 0.1):
        seen = [run(seed, 0.0, 0.1, share, 30) for seed in range(runs)]
        print(
            f"A/A, challenger_share {share}, {runs} runs of 30 daily looks: "
            f"false positives {np.mean([any(one.decided) for one in seen]):.1%}, "
            f"of a fixed-horizon test looked at daily {np.mean([any(one.peeked) for one in seen]):.1%}, "
            f"of the sample-ratio check {np.mean([any(one.ratio) for one in seen]):.1%}"
        )
    for lift, planned in ((0.1, 0.1), (0.15, 0.1), (0.2, 0.1)):
        seen = [run(seed, lift, planned, 0.5, 60) for seed in range(runs)]
        information = np.mean([one.information for one in seen], axis=0)
        impressions = np.mean([one.impressions for one in seen], axis=0)
        needed = np.interp(PLANNED / (RATE * planned) ** 2, information, impressions)
        took = [one.impressions[np.flatnonzero(one.decided)[0] if any(one.decided) else -1] for one in seen]
        print(
            f"A/B, true lift {lift:.0%}, planned for {planned:.0%}: "
            f"decided {np.mean([any(o.decided) for o in seen]):.1%}, "
            f"wrongly {np.mean([min(o.decided) < 0 for o in seen]):.1%}; impressions {np.mean(took):,.0f} on average, "
            f"fixed horizon {needed:,.0f}: {np.mean(took) / needed:.2f}; "
            f"covered at every look {np.mean([all(o.covered) for o in seen]):.1%}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
