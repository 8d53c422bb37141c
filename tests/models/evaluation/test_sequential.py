import math

import numpy as np
import pytest

from models.evaluation.intervals import Interval
from models.evaluation.sequential import Arm, difference, sample_ratio


def _arm(random: np.random.Generator, users: int, rate: float) -> Arm:
    base = random.poisson(20, users) + 1.0
    return Arm(random.binomial(base.astype(int), rate).astype(float), base)


def test_the_interval_is_wider_than_that_of_one_look_and_holds_the_difference() -> None:
    random = np.random.default_rng(1)
    new, old = _arm(random, 800, 0.15), _arm(random, 1600, 0.10)
    found = difference(new, old, min_lift=0.1)
    error = math.hypot(new.rate()[1], old.rate()[1])
    plain = math.sqrt(0.15 * 0.85 / new.base.sum() + 0.1 * 0.9 / old.base.sum())
    assert error == pytest.approx(plain, rel=0.1)
    assert found.low < 0.05 < found.high
    assert (found.high - found.low) / 2 > 1.96 * error


def test_looks_at_equal_arms_reject_seldom() -> None:
    rejected = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        new, old = _arm(random, 2000, 0.1), _arm(random, 2000, 0.1)
        looks = [
            (Arm(new.amount[:n], new.base[:n]), Arm(old.amount[:n], old.base[:n]))
            for n in range(200, 2001, 100)
        ]
        rejected += any(
            not found.low <= 0 <= found.high for found in (difference(*look, 0.1) for look in looks)
        )
    assert rejected <= 6


def test_without_variation_nothing_is_decided() -> None:
    none = Arm(np.zeros(5), np.ones(5))
    assert difference(none, none, 0.1) == Interval(0.0, -math.inf, math.inf)


def test_the_sample_ratio_is_refused_only_where_users_are_missing() -> None:
    assert sample_ratio(1010, 8990, 0.1) > 0.5
    assert sample_ratio(850, 9150, 0.1) < 1e-3
