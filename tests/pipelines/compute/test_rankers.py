"""The size of a window decides how its rankers are fitted; the tags say how."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from features.buckets import bucket
from features.errors import ModelError, TableError
from models.evaluation.metrics import per_impression
from models.prequential import fit_rankers
from models.ranker import Ranker
from pipelines.compute.engine import Engine
from pipelines.compute.rankers import Fit, RankingWindow, Shards, fit_shards, fit_window
from pipelines.compute.scratch import Scratch
from pipelines.lake import Lake

DAYS = ["2026-01-05", "2026-01-06", "2026-01-07"]
IMPRESSIONS = 200
START = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path: Path, toy: Any) -> Lake:
    lake = Lake(f"{tmp_path}/lake")
    for day, slice in enumerate(DAYS):
        lake.write("ranking_dataset", slice, toy.ranking_slice(day))
    return lake


def _deployment(lake: Lake, toy: Any, ranker: dict[str, Any] | None = None, **scale: int) -> Any:
    settings = {
        "num_iterations": 30,
        "early_stopping_round": 30,
        "min_data_in_leaf": 10,
        "num_leaves": 5,
        **(ranker or {}),
    }
    return SimpleNamespace(
        lake=lake,
        project=toy.project(
            slices={"start": START, "every": "1d"},
            labels={"gains": {"click": 1.0}},
            ranker=settings,
            scale=scale,
        ),
        engine=Engine(),
        scratch=Scratch(f"{lake.root}/../scratch"),
    )


def _fit(deployment: Any) -> Fit:
    window = RankingWindow(deployment.lake, tuple(DAYS))
    return fit_window(window, deployment.project, deployment.engine, deployment.scratch)


def _texts(ranker: Ranker) -> list[str]:
    return [booster.model_to_string() for booster in ranker.boosters]


def _quality(ranker: Ranker, toy: Any) -> float:
    unseen = toy.ranking_slice(3, seed=5)
    mean = per_impression(unseen.with_columns(score=ranker.score(unseen)))["ndcg@10"].mean()
    assert isinstance(mean, float)
    return mean


@pytest.mark.parametrize("rankers", [1, 2])
def test_a_window_that_fits_in_memory_is_fitted_by_one_process(lake: Lake, toy: Any, rankers: int) -> None:
    deployment = _deployment(lake, toy, rankers=rankers, in_memory=3 * IMPRESSIONS * 8)
    fitted = _fit(deployment)
    dataset = lake.read("ranking_dataset", DAYS)
    project = deployment.project
    single = fit_rankers(dataset, project.ranker, project.labels, project.seed)
    for actual, expected in zip(fitted[:2], single, strict=True):
        assert _texts(actual) == _texts(expected)
    assert fitted.examples.equals(dataset.tail(5))
    assert fitted.tags == {}


def test_one_process_samples_whole_impressions_of_a_larger_window(lake: Lake, toy: Any) -> None:
    deployment = _deployment(lake, toy, in_memory=1600)
    fitted = _fit(deployment)
    # A third of each day, rounded down to whole impressions.
    assert fitted.tags == {"drawn": "1,584 of 4,800 candidates, whole impressions at random"}
    assert fitted.full.info["rows"] <= 1584
    assert fitted.full.info["slices"] == DAYS
    assert _texts(_fit(deployment).full) == _texts(fitted.full)
    assert fitted.examples.height == 5


def test_parts_of_a_window_can_be_read(lake: Lake) -> None:
    window, rows = RankingWindow(lake, tuple(DAYS[:2])), lake.read("ranking_dataset", DAYS[:2])
    impressions = window.impressions()
    assert window.candidates() == rows.height == impressions["candidates"].sum()
    chosen = window.read_impressions(impressions.sample(7, seed=1))
    assert set(chosen.group_by("impression_id").len()["len"]) == {8}
    assert chosen.join(rows, on=rows.columns, how="semi").height == chosen.height == 7 * 8
    parts = [window.read_bucket(part, 3) for part in range(3)]
    assert sum(part.height for part in parts) == rows.height
    for number, part in enumerate(parts):
        assert (bucket(part["user_id"], 3) == number).all()
    since = START + timedelta(days=1, hours=1)
    late = window.read_since(since, 10**6, seed=1)
    assert late.height == rows.filter(pl.col("as_of") >= since).height
    assert 80 - 8 < window.read_since(since, 80, seed=1).height <= 80


def test_two_processes_fit_as_well_as_one(lake: Lake, toy: Any) -> None:
    deployment = _deployment(lake, toy, rankers=2, in_memory=1600)
    fitted = _fit(deployment)
    dataset = lake.read("ranking_dataset", DAYS)
    single = [
        _quality(fit_rankers(dataset, deployment.project.ranker, deployment.project.labels, seed)[0], toy)
        for seed in range(5)
    ]
    spread = max(single) - min(single)
    assert spread < 0.02
    assert min(single) - spread < _quality(fitted.full, toy) < max(single) + spread
    assert _quality(fitted.behaviour_only, toy) < min(single) - 0.05
    assert fitted.full.info["rows"] > 1600
    assert fitted.tags == {"workers": 2}
    assert fitted.behaviour_only.columns == ("item_ctr_1d",)
    assert fitted.examples["slice"].unique().to_list() == DAYS[-1:]
    assert not [*Path(deployment.scratch.root).rglob("*.*")]


def test_unsupported_settings_are_rejected_before_workers_start(lake: Lake, toy: Any) -> None:
    deployment = _deployment(lake, toy, {"position_bias": "learned"}, rankers=2, in_memory=1600)
    deployment.engine = None
    with pytest.raises(ModelError, match=r"scale\.rankers to 1"):
        _fit(deployment)


def test_workers_reject_a_table_that_changed(lake: Lake, toy: Any) -> None:
    window, project = RankingWindow(lake, tuple(DAYS)), _deployment(lake, toy).project
    shards = Shards(window, project, 4801, START + timedelta(days=2), Scratch(f"{lake.root}/out"))
    with pytest.raises(TableError, match="1 workers read 4800 candidates, but ranking_dataset had 4801"):
        fit_shards(shards)
