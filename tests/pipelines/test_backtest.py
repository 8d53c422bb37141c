"""Backtest of a tiny newsroom: held-out items, several seeds, static state."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from unittest.mock import Mock

import pytest

from features.behaviour import lookup_and_update
from features.errors import ProjectError
from models.evaluation.metrics import METRICS
from models.evaluation.seed_variance import GAIN
from pipelines import chain
from pipelines.backtest import backtest
from pipelines.deployment import Deployment

CUT = datetime(2026, 1, 6, 12, tzinfo=UTC)
TINY = (
    "source.newsroom.days=2",
    "source.newsroom.articles_a_day=10",
    "source.newsroom.impressions_a_day=90",
    "source.newsroom.list_size=10",
    "slices.end=2026-01-07T00:00:00Z",
    'interest.tune="frozen"',
    "interest.width=8",
    "interest.heads=2",
    "interest.window=8",
    "interest.max_tokens=8",
    "ranker.num_iterations=5",
    "ranker.min_data_in_leaf=5",
    "promotion.resamples=100",
    "evaluation.min_impressions=1",
)


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, small_newsroom: Callable[..., Deployment]
) -> Deployment:
    return small_newsroom(tmp_path_factory.mktemp("home"), *TINY)


def _means(scorers: dict[str, Any]) -> dict[tuple[str, str], float]:
    return {
        (scorer, metric): interval["mean"]
        for scorer, metrics in scorers.items()
        for metric, interval in metrics.items()
    }


@pytest.fixture(scope="module")
def plain(deployment: Deployment) -> dict[str, Any]:
    return backtest(deployment, CUT)


def test_seeds_share_one_walk_and_the_first_gives_the_metrics(
    deployment: Deployment, plain: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Mock(wraps=lookup_and_update)
    monkeypatch.setattr(chain, "lookup_and_update", spy)

    result = backtest(deployment, CUT, seeds=(1, 2))

    assert spy.call_count == 3  # two slices before the instant, the second one split there, and its remainder
    assert result["scorers"] == plain["scorers"]
    assert result["gain"] == plain["gain"]
    assert result["versions"]["seeds"] == [1, 2]
    assert set(result["seed_variance"]) == {*plain["scorers"], GAIN}
    for metric in METRICS:
        values = result["seed_variance"]["full"][metric]["values"]
        assert values[0] == plain["scorers"]["full"][metric]["mean"]
    text = result["seed_variance"]["text_only"]["auc"]
    assert text["values"][0] != text["values"][1]
    assert result["seed_variance"]["popularity"]["auc"]["deviation"] == 0
    assert "seed_variance" not in plain


def test_held_out_items_are_evaluated_alone(deployment: Deployment, plain: dict[str, Any]) -> None:
    result = backtest(deployment, CUT, new_items=0.5)

    assert result["versions"]["new_items"] == 0.5
    assert 0 < result["impressions"] <= plain["impressions"]
    # Every candidate is new, so the segment of new items has all of them.
    assert _means(result["segments"]["new_items"]) == _means(result["scorers"])
    assert _means(plain["segments"]["new_items"]) != _means(plain["scorers"])
    assert set(plain["segments"]) > {"new_users", "new_items"}
    assert not set(plain["segments"]) & set(plain["left_out"])


def test_with_a_static_state_popularity_cannot_rank_new_items(deployment: Deployment) -> None:
    result = backtest(deployment, CUT, new_items=0.5, static=True)

    assert result["scorers"]["popularity"]["auc"]["mean"] == 0.5
    assert result["scorers"]["full"]["auc"]["mean"] != 0.5


def test_an_instant_with_nothing_before_it_is_an_error(deployment: Deployment) -> None:
    with pytest.raises(ProjectError, match="leaves no impressions to fit on or none to evaluate"):
        backtest(deployment, datetime(2026, 1, 5, tzinfo=UTC), new_items=0.5)
