"""Workers of a cluster fit the same ranker as processes of one machine, also when one is killed."""

import os
import signal
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from models.ranker import Ranker
from pipelines.compute import rankers
from pipelines.compute.engine import Cluster, Engine
from pipelines.compute.rankers import RankingWindow, Shards, fit_shards
from pipelines.compute.scratch import Scratch
from pipelines.lake import Lake

DAYS = ["2026-01-05", "2026-01-06", "2026-01-07"]
START = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path: Path, toy: Any) -> Lake:
    lake = Lake(f"{tmp_path}/lake")
    for day, slice in enumerate(DAYS):
        lake.write("ranking_dataset", slice, toy.ranking_slice(day))
    return lake


def _fit(lake: Lake, toy: Any, engine: Engine, rounds: int = 30) -> rankers.Fit:
    settings = {
        "num_iterations": rounds,
        "early_stopping_round": rounds,
        "min_data_in_leaf": 10,
        "num_leaves": 5,
    }
    project = toy.project(
        slices={"start": START, "every": "1d"},
        labels={"gains": {"click": 1.0}},
        ranker=settings,
        scale={"rankers": 2, "in_memory": 1600},
    )
    return rankers.fit_window(
        RankingWindow(lake, tuple(DAYS)), project, engine, Scratch(f"{lake.root}/../scratch")
    )


def _texts(ranker: Ranker) -> list[str]:
    return [booster.model_to_string() for booster in ranker.boosters]


def test_the_location_of_the_workers_makes_no_difference(machines: Any, lake: Lake, toy: Any) -> None:
    here, there = (_fit(lake, toy, engine) for engine in (Engine(), Cluster(machines.address)))
    assert there.tags == here.tags == {"workers": 2}
    assert _texts(there.full) == _texts(here.full)
    assert _texts(there.behaviour_only) == _texts(here.behaviour_only)
    assert there.full.calibration == here.full.calibration


@dataclass(frozen=True)
class FirstDies:
    """`fit_shards`, with the second worker killed once during the fit."""

    died: Path

    def __call__(self, shards: Shards) -> None:
        if os.environ["RANK"] == "1" and not self.died.exists():
            self.died.touch()
            # A connected worker reads the held-out impressions last; the fit then takes seconds.
            Timer(2.0, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
        fit_shards(shards)


@pytest.mark.parametrize("engine_name", ["processes", "cluster"])
def test_a_worker_killed_during_the_fit_costs_only_time(
    engine_name: str, lake: Lake, toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    engine = Engine() if engine_name == "processes" else Cluster(request.getfixturevalue("machines").address)
    monkeypatch.setattr(rankers, "fit_shards", FirstDies(tmp_path / "died"))
    fitted = _fit(lake, toy, engine, rounds=1500)
    assert (tmp_path / "died").exists()
    assert fitted.full.info["rows"] > 1600
