"""`momentrank tune` on a tiny dataset: one line per trial, nested runs, nothing registered."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import mlflow
import numpy as np
import polars as pl
import pytest

from features.errors import ModelError
from pipelines.cli.tune import tune
from pipelines.deployment import Deployment
from pipelines.terminal import Terminal

TINY = ("ranker.num_iterations=4", "ranker.min_data_in_leaf=5", "ranker.folds=1", "labels.gains={click=1.0}")


@pytest.fixture
def deployment(tmp_path: Path, small_newsroom: Callable[..., Deployment]) -> Deployment:
    return small_newsroom(tmp_path, *TINY)


def _slice(seed: int) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    taste = random.normal(size=180)
    return pl.DataFrame(
        {
            "impression_id": [f"{seed}-{n // 6}" for n in range(180)],
            "item_id": [f"{n % 37}" for n in range(180)],
            "position": np.tile(np.arange(1, 7), 30).astype(np.int32),
            "label": (random.random(180) < 1 / (1 + np.exp(1 - 2 * taste))).astype(float),
            "item_ctr_1d": taste,
        }
    )


def test_trials_are_tracked_inside_one_run_and_nothing_is_registered(deployment: Deployment) -> None:
    for day in range(5, 9):
        deployment.lake.write("ranking_dataset", f"2026-01-{day:02}", _slice(day))
    page = StringIO()

    tuning = tune(deployment.slices, deployment.registry, Terminal(file=page, width=200), trials=2, folds=2)

    lines = page.getvalue().splitlines()
    assert sum(line.startswith("trial ") for line in lines) == len(tuning.trials) == 3
    best = f"{tuning.best.value:.4f}"
    assert any(best in line and not line.startswith("trial") for line in lines)
    assert ("[ranker]" in lines) == (tuning.best.number > 0)
    runs = mlflow.MlflowClient().search_runs([mlflow.get_experiment_by_name("newsroom").experiment_id])
    (parent,) = [run for run in runs if run.data.tags["kind"] == "tuning"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(runs) == 4
    assert {run.data.metrics["ndcg_at_10"] for run in children} == {trial.value for trial in tuning.trials}
    assert deployment.registry.versions("ranker") == []


def test_without_a_dataset_it_says_what_to_run_first(deployment: Deployment) -> None:
    with pytest.raises(ModelError, match="there is no ranking dataset to tune on yet: `momentrank run`"):
        tune(deployment.slices, deployment.registry, Terminal(file=StringIO()), trials=1, folds=1)
