import numpy as np
import pytest

from features.exploration import explore


@pytest.mark.parametrize(("size", "near_best"), [(1, 5), (2, 5), (5, 5), (7, 6)])
def test_propensities_are_the_frequencies_of_the_drawn_positions(size: int, near_best: int) -> None:
    random, draws = np.random.default_rng(1), 4000
    counts, logged = np.zeros((size, size)), np.full((size, size), np.nan)
    for _ in range(draws):
        shown, propensity = explore(size, 0.4, near_best, random)
        assert sorted(shown) == list(range(size))
        counts[shown, np.arange(size)] += 1
        logged[shown, np.arange(size)] = propensity
    assert np.array_equal(np.isnan(logged), counts == 0)
    assert np.abs(np.nan_to_num(logged) - counts / draws).max() < 0.03
    assert np.nansum(logged, axis=0) == pytest.approx(np.ones(size))
