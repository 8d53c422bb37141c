"""Fine-tuning passes arrays and the previous version to its workers, reports progress and returns a version."""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from models.interest.config import InterestConfig
from models.interest.item_arrays import ItemArrays
from models.interest.moment_arrays import MomentArrays
from models.interest.saved_fit import SavedFit, load_arrays
from pipelines.compute.fine_tuning import Trainers, fine_tune


class Engine:
    """Records its arguments and writes a version that has only a loss curve."""

    def __init__(self, reports: list[Any]) -> None:
        self.requested: tuple[int, bool] = (0, False)
        self.files: set[str] = set()
        self._reports = reports

    def train(self, function: Any, config: SavedFit, workers: int, gpus: bool = False) -> None:
        self.requested = (workers, gpus)
        self.files = {str(file.relative_to(config.out.parent)) for file in config.out.parent.rglob("*")}
        self.texts = load_arrays(config.arrays)[0].texts
        config.progress.write_text(json.dumps({"step": 3}), encoding="utf-8")
        until = time.monotonic() + 10
        while not self._reports and time.monotonic() < until:
            time.sleep(0.01)
        config.out.mkdir()
        (config.out / "config.json").write_text(json.dumps({"history": [{"loss": 0.5}]}), encoding="utf-8")


def _data() -> Any:
    """One text, shown once to a user without a history."""
    empty = np.zeros(0, np.int64)
    return SimpleNamespace(
        items=ItemArrays.of_texts(["a text"]),
        moments=MomentArrays(
            history_item=empty,
            history_action=empty,
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


def test_workers_get_the_arrays_and_the_previous_version_and_report_progress(tmp_path: Path) -> None:
    reports: list[Any] = []
    engine, folder = Engine(reports), tmp_path / "fit"
    (tmp_path / "previous").mkdir()
    (tmp_path / "previous" / "config.json").touch()
    version = folder / "version"
    version.mkdir(parents=True)
    trainers = Trainers(engine, 2, True, tmp_path / "cache")

    result = fine_tune(
        _data(), InterestConfig(numbers=()), trainers, folder, tmp_path / "previous", reports.append
    )

    assert engine.requested == (2, True)
    assert engine.texts == ["a text"]
    assert "start/config.json" in engine.files
    assert "version" not in engine.files
    assert reports[0] == {"step": 3}
    assert result == (version, [{"loss": 0.5}])
