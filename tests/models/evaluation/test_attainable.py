"""The share of the attainable gain between random order and perfect order."""

import pytest

from models.evaluation.attainable import attainable_share, beside_random


@pytest.mark.parametrize(
    ("mean", "random", "share"), [(0.3, 0.3, 0.0), (1.0, 0.3, 1.0), (0.65, 0.3, 0.5), (0.25, 0.5, -0.5)]
)
def test_the_share_runs_from_random_order_to_perfect_order(mean, random, share):
    assert attainable_share(mean, random) == pytest.approx(share)


@pytest.mark.parametrize("random", [None, 1.0])
def test_there_is_no_share_without_a_random_figure_or_attainable_gain(random):
    assert attainable_share(0.7, random) is None
    assert beside_random(0.7, random) == ""


def test_the_text_names_random_order_perfect_order_and_the_share():
    assert beside_random(0.65, 0.3) == "random order 0.300, perfect order 1: 50.0% of the attainable gain"
