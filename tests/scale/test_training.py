"""An interest model fine-tuned by workers of a cluster equals that of a single process."""

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

from models.interest.benchmark import random_encoder, synthetic
from models.interest.saved_fit import SavedFit, fit_saved, save_arrays, saved_history
from pipelines.compute.engine import Cluster, Engine

SECONDS = 60


@dataclass(frozen=True)
class OnceKilled:
    """`fit_saved` with a worker killed after the first checkpoint; records from where, and by how many, it resumes."""

    folder: Path
    node: str = ""
    """The node to kill with all its workers; if empty, only the worker of rank 1 dies."""

    def __call__(self, fit: SavedFit) -> None:
        # Imported here because this class is pickled by value, which fails for `safe_open`.
        from safetensors import safe_open

        killed = self.folder / "killed"
        if self._is_chosen() and not killed.exists():
            Thread(target=self._die, args=(fit,), daemon=True).start()
        if os.environ["RANK"] == "0" and killed.exists():
            with safe_open(fit.checkpoint / "training.safetensors", framework="pt") as file:
                (self.folder / "resumed").write_text(file.metadata()["step"])
            (self.folder / "workers").write_text(os.environ["WORLD_SIZE"])
        fit_saved(fit)

    def _is_chosen(self) -> bool:
        import ray

        if not self.node:
            return os.environ["RANK"] == "1"
        return bool(ray.get_runtime_context().get_node_id() == self.node)

    def _die(self, fit: SavedFit) -> None:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            if (fit.checkpoint / "training.safetensors").exists():
                (self.folder / "killed").touch()
                if self.node:
                    os.kill(
                        os.getppid(), signal.SIGKILL
                    )  # the node's own daemon, without which it is no more
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.01)


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """Training arrays, with a plan of 8 epochs of 3 steps."""
    items, moments, config = synthetic(64)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    encoder = random_encoder(tmp_path / "encoder", **shape)
    config = replace(
        config, encoder=str(encoder), impressions_per_step=3, accumulate=6, epochs=8, device="cpu"
    )
    save_arrays(tmp_path / "arrays", items, moments, config)
    return tmp_path / "arrays"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Use one thread, like the workers: the last bits of a product may depend on the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def losses(arrays: Path, folder: Path, engine: Engine, train: Any, workers: int) -> list[float]:
    fit = SavedFit(arrays, folder / "version", folder / "training", cache=folder.parent / "cache")
    engine.train(train, fit, workers)
    return [facts["loss"] for facts in saved_history(fit.out)]


@pytest.mark.usefixtures("one_thread")
def test_a_fit_with_a_killed_worker_ends_as_in_one_process(
    machines: Any, arrays: Path, tmp_path: Path
) -> None:
    alone = losses(arrays, tmp_path / "alone", Engine(), fit_saved, 1)

    shared = losses(arrays, tmp_path / "shared", Cluster(machines.address), OnceKilled(tmp_path), 2)

    assert 3 <= int((tmp_path / "resumed").read_text()) < 24
    assert (tmp_path / "workers").read_text() == "2"
    assert shared == pytest.approx(alone, abs=1e-4)


@pytest.mark.usefixtures("one_thread")
def test_a_fit_with_a_lost_node_continues_with_the_remaining_workers(
    machines: Any, arrays: Path, tmp_path: Path
) -> None:
    """Three workers of one core need both nodes; one node has room for two."""
    lost = machines.workers[0]
    alone = losses(arrays, tmp_path / "alone", Engine(), fit_saved, 1)

    once = OnceKilled(tmp_path, lost.node_id)
    shared = losses(arrays, tmp_path / "shared", Cluster(machines.address), once, 3)
    machines.kill(lost)

    assert 3 <= int((tmp_path / "resumed").read_text()) < 24
    assert (tmp_path / "workers").read_text() == "2"
    assert shared == pytest.approx(alone, abs=1e-4)
