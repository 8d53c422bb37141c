"""What the workers of a fit are given, what is heard of them, and what they leave."""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from models.interest.arrays import load_arrays
from models.interest.config import InterestConfig
from models.interest.fitting import SavedFit
from models.interest.items import ItemArrays
from models.interest.moments import MomentArrays
from pipelines.compute.fine_tuning import Trainers, fine_tune


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


def test_workers_find_the_arrays_and_the_version_to_start_from_and_report_progress(tmp_path: Path) -> None:
    heard: list[Any] = []
    engine, folder = Engine(heard), tmp_path / "fit"
    (tmp_path / "previous").mkdir()
    (tmp_path / "previous" / "config.json").touch()
    left = folder / "version"
    left.mkdir(parents=True)
    trainers = Trainers(engine, 2, True, tmp_path / "cache")

    found = fine_tune(
        _given(), InterestConfig(numbers=()), trainers, folder, tmp_path / "previous", heard.append
    )

    assert engine.asked == (2, True)
    assert engine.texts == ["a text"]
    assert "start/config.json" in engine.found
    assert "version" not in engine.found
    assert heard[0] == {"step": 3}
    assert found == (left, [{"loss": 0.5}])
