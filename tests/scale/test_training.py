"""The interest model fine-tuned by workers of a cluster is the one that a single process makes."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

from models.interest.arrays import save_arrays
from models.interest.benchmark import random_encoder, synthetic
from models.interest.fitting import SavedFit, fit_saved, saved_history
from pipelines.engine import Cluster, Embedded

SECONDS = 60


@dataclass(frozen=True)
class OnceKilled:
    """`fit_saved`, in which the last worker is killed after the first checkpoint; notes where it went on."""

    folder: Path

    def __call__(self, fit: SavedFit) -> None:
        # Imported here: this class travels by value, which `safe_open` does not survive.
        from safetensors import safe_open

        killed = self.folder / "killed"
        if os.environ["RANK"] == "1" and not killed.exists():
            Thread(target=self._die, args=(fit,), daemon=True).start()
        if os.environ["RANK"] == "0" and killed.exists():
            with safe_open(fit.checkpoint / "training.safetensors", framework="pt") as file:
                (self.folder / "resumed").write_text(file.metadata()["step"])
        fit_saved(fit)

    def _die(self, fit: SavedFit) -> None:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            if (fit.checkpoint / "training.safetensors").exists():
                (self.folder / "killed").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.01)


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """With a plan of 8 epochs of 4 steps."""
    items, moments, config = synthetic(64)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    encoder = random_encoder(tmp_path / "encoder", **shape)
    config = replace(
        config, encoder=str(encoder), impressions_per_step=8, accumulate=2, epochs=8, device="cpu"
    )
    save_arrays(tmp_path / "arrays", items, moments, config)
    return tmp_path / "arrays"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many as a worker of the cluster has: the last bits of a product may depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_a_fit_of_which_a_worker_was_killed_ends_as_in_one_process(
    machines: Any, arrays: Path, tmp_path: Path
) -> None:
    alone, shared = (
        SavedFit(arrays, tmp_path / name / "version", tmp_path / name / "training", cache=tmp_path / "cache")
        for name in ("alone", "shared")
    )
    Embedded().train(fit_saved, alone, 1)

    Cluster(machines.address).train(OnceKilled(tmp_path), shared, 2)

    curves = [[facts["loss"] for facts in saved_history(fit.out)] for fit in (alone, shared)]
    assert 4 <= int((tmp_path / "resumed").read_text()) < 32
    assert curves[1] == pytest.approx(curves[0], abs=1e-4)
