from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.config.project import Project, load
from features.errors import ModelError
from models.ranker.search import SETTINGS, Trial, Tuning, tune

NEWSROOM = Path(__file__).parents[3] / "projects" / "newsroom.toml"
QUICK = ("ranker.num_iterations=4", "ranker.min_data_in_leaf=5", "ranker.folds=1", "labels.gains={click=1.0}")


def _dataset(slices: int = 4, lists: int = 30) -> pl.DataFrame:
    random = np.random.default_rng(1)
    count = slices * lists * 6
    taste = random.normal(size=count)
    return pl.DataFrame(
        {
            "slice": np.repeat(np.arange(slices), lists * 6).astype(str),
            "impression_id": (np.arange(count) // 6).astype(str),
            "item_id": (np.arange(count) % 37).astype(str),
            "position": np.tile(np.arange(1, 7), count // 6).astype(np.int32),
            "as_of": np.arange(count) // 6,
            "label": (random.random(count) < 1 / (1 + np.exp(1 - 2 * taste))).astype(float),
            "item_ctr_1d": taste,
            "noise": random.normal(size=count),
        }
    )


@pytest.fixture(scope="module")
def project() -> Project:
    return load(NEWSROOM, QUICK)


def _tune(dataset: pl.DataFrame, project: Project, **options: Any) -> Tuning:
    return tune(dataset, project.ranker, project.labels, "ndcg@10", project.seed, **options)


def test_the_current_settings_come_first_and_every_trial_is_reported(project: Project) -> None:
    reported: list[Trial] = []
    tuning = _tune(_dataset(), project, trials=2, count=2, on_trial=reported.append)
    assert tuple(reported) == tuning.trials
    assert [trial.number for trial in tuning.trials] == [0, 1, 2]
    assert tuning.trials[0].settings == {name: getattr(project.ranker, name) for name in SETTINGS}
    assert all(len(trial.values) == 2 and 0.5 < trial.value <= 1 for trial in tuning.trials)
    again = _tune(_dataset(), project, trials=2, count=2)
    assert [trial.settings for trial in again.trials] == [trial.settings for trial in tuning.trials]
    assert [trial.values for trial in again.trials] == [trial.values for trial in tuning.trials]


def test_later_slices_do_not_affect_a_fold(project: Project) -> None:
    dataset = _dataset()
    later = dataset.with_columns(label=pl.when(slice="3").then(1 - pl.col("label")).otherwise("label"))
    first, second = (_tune(one, project, trials=0, count=2).trials[0].values for one in (dataset, later))
    assert first[0] == second[0]
    assert first[1] > second[1]


def test_no_trial_starts_after_the_time_limit(project: Project) -> None:
    assert len(_tune(_dataset(), project, trials=50, count=1, seconds=0.01).trials) == 1


def test_the_gain_is_paired_by_fold() -> None:
    tuning = Tuning("auc", (Trial(0, {}, (0.5, 0.6), 1.0), Trial(1, {}, (0.7, 0.6), 1.0)))
    assert tuning.best.number == 1
    assert tuning.gain() == pytest.approx((0.1, 0.0, 0.2))


def test_one_slice_is_refused(project: Project) -> None:
    with pytest.raises(ModelError, match="1 slices have a ranking dataset"):
        _tune(_dataset(1), project, trials=1, count=1)
