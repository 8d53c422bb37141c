"""Backtest of a tiny newsroom: new items are new, seeds share one walk, the state can be stopped."""

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
        for scorer, found in scorers.items()
        for metric, interval in found.items()
    }


@pytest.fixture(scope="module")
def plain(deployment: Deployment) -> dict[str, Any]:
    return backtest(deployment, CUT)


def test_seeds_share_one_walk_and_the_first_gives_the_figures(
    deployment: Deployment, plain: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Mock(wraps=lookup_and_update)
    monkeypatch.setattr(chain, "lookup_and_update", counted)

    found = backtest(deployment, CUT, seeds=(1, 2))

    assert counted.call_count == 3  # two slices before the instant, the second cut there, and the rest of it
    assert found["scorers"] == plain["scorers"]
    assert found["gain"] == plain["gain"]
    assert found["versions"]["seeds"] == [1, 2]
    assert set(found["seed_variance"]) == {*plain["scorers"], GAIN}
    for metric in METRICS:
        values = found["seed_variance"]["full"][metric]["values"]
        assert values[0] == plain["scorers"]["full"][metric]["mean"]
    text = found["seed_variance"]["text_only"]["auc"]
    assert text["values"][0] != text["values"][1]
    assert found["seed_variance"]["popularity"]["auc"]["deviation"] == 0
    assert "seed_variance" not in plain


def test_new_items_are_judged_alone_and_nobody_met_them(
    deployment: Deployment, plain: dict[str, Any]
) -> None:
    found = backtest(deployment, CUT, new_items=0.5)

    assert found["versions"]["new_items"] == 0.5
    assert 0 < found["impressions"] <= plain["impressions"]
    # Every candidate is new, so the segment of new items is all there is.
    assert _means(found["segments"]["new_items"]) == _means(found["scorers"])
    assert _means(plain["segments"]["new_items"]) != _means(plain["scorers"])
    assert set(plain["segments"]) > {"new_users", "new_items"}
    assert not set(plain["segments"]) & set(plain["left_out"])


def test_with_the_state_stopped_new_items_are_all_alike_to_popularity(deployment: Deployment) -> None:
    found = backtest(deployment, CUT, new_items=0.5, static=True)

    assert found["scorers"]["popularity"]["auc"]["mean"] == 0.5
    assert found["scorers"]["full"]["auc"]["mean"] != 0.5


def test_an_instant_with_nothing_before_it_is_refused(deployment: Deployment) -> None:
    with pytest.raises(ProjectError, match="leaves nothing to fit on or nothing to evaluate"):
        backtest(deployment, datetime(2026, 1, 5, tzinfo=UTC), new_items=0.5)
