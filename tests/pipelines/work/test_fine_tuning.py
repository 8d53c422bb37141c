"""What the workers of a fit are given, what is heard of them, and what they leave."""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from features.errors import ProjectError
from models.interest.arrays import load_arrays
from models.interest.fitting import SavedFit
from models.interest.items import ItemArrays
from models.interest.moments import MomentArrays
from pipelines.work.fine_tuning import fine_tune, place_of

SLICE = "2026-01-05"


class Engine:
    """Notes what it is asked for, and makes a version of nothing but a loss curve."""

    def __init__(self, heard: list[Any]) -> None:
        self.asked: tuple[int, bool] = (0, False)
        self.found: set[str] = set()
        self._heard = heard

    def train(self, function: Any, config: SavedFit, workers: int, gpus: bool = False) -> None:
        self.asked = (workers, gpus)
        self.found = {str(file.relative_to(config.out.parent)) for file in config.out.parent.rglob("*")}
        self.texts = load_arrays(config.arrays)[0].texts
        config.progress.write_text(json.dumps({"step": 3}), encoding="utf-8")
        until = time.monotonic() + 10
        while not self._heard and time.monotonic() < until:
            time.sleep(0.01)
        config.out.mkdir()
        (config.out / "config.json").write_text(json.dumps({"history": [{"loss": 0.5}]}), encoding="utf-8")


def _given() -> Any:
    """One text, shown once to somebody without a past."""
    nothing = np.zeros(0, np.int64)
    return SimpleNamespace(
        items=ItemArrays.of_texts(["a text"]),
        moments=MomentArrays(
            history_item=nothing,
            history_action=nothing,
            history_at=np.zeros(0),
            user_start=np.array([0, 0]),
            impression_user=np.array([0]),
            impression_prefix=np.array([0]),
            impression_at=np.array([1.7e9]),
            impression_start=np.array([0, 1]),
            candidate_item=np.array([0]),
            label=np.ones(1, np.float32),
        ),
    )


def _deployment(toy: Any, folder: Path, heard: list[Any], engine: str = "embedded", scratch: str = "") -> Any:
    return SimpleNamespace(
        project=toy.project(
            scale={"trainers": 2, "gpus": True}, interest={"numbers": False, "accumulate": 2}
        ),
        settings=SimpleNamespace(engine=engine, checkpoints=folder, cache=folder / "cache", scratch=scratch),
        scratch=lambda *names: "/".join([scratch, "toy", *names]),
        engine=Engine(heard),
        watch=lambda what: lambda facts: heard.append((what, facts)),
    )


def test_workers_find_the_arrays_and_the_version_to_begin_from_and_are_heard(
    toy: Any, tmp_path: Path
) -> None:
    heard: list[Any] = []
    deployment = _deployment(toy, tmp_path / "home", heard)
    (tmp_path / "previous").mkdir()
    (tmp_path / "previous" / "config.json").touch()
    left = place_of(deployment, SLICE) / "version"
    left.mkdir(parents=True)

    folder, history = fine_tune(deployment, SLICE, _given(), tmp_path / "previous")

    assert deployment.engine.asked == (2, True)
    assert deployment.engine.texts == ["a text"]
    assert "start/config.json" in deployment.engine.found
    assert "version" not in deployment.engine.found
    assert heard[0] == (f"interest_model {SLICE}", {"step": 3})
    assert (folder, history) == (left, [{"loss": 0.5}])


def test_a_cluster_needs_a_folder_that_its_machines_share(toy: Any, tmp_path: Path) -> None:
    shared = _deployment(toy, tmp_path, [], "ray", f"{tmp_path}/shared")
    remote = _deployment(toy, tmp_path, [], "ray", "s3://bucket/scratch")

    assert place_of(shared, SLICE) == tmp_path / "shared" / "toy" / "fits" / SLICE
    with pytest.raises(ProjectError, match="MOMENTRANK_SCRATCH is s3://bucket/scratch"):
        place_of(remote, SLICE)
