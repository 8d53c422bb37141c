import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Barrier, Thread

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from models.interest import workers as group
from models.interest.config import InterestConfig, InterestModelError
from models.interest.fit import fine_tune
from models.interest.saved_fit import SavedFit, fit_saved, save_arrays, saved_history
from models.interest.version import InterestModel
from models.interest.workers import GradientSum, Workers, launch


@pytest.fixture
def config(narrow_config: InterestConfig) -> InterestConfig:
    return replace(
        narrow_config,
        epochs=8,
        patience=8,
        impressions_per_step=3,
        accumulate=3,
        texts_per_step=5,
        encoder_rate=1e-3,
        holdout=0.2,
    )


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many as each of two workers has here: the last bits of a product may depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Killed(Exception):
    pass


def kill_one(fit: SavedFit, found: dict[str, int]) -> None:
    """SIGKILL a worker once the group has written a checkpoint, and note of which step, and where it went on."""
    file = fit.checkpoint / "training.safetensors"
    before = file.stat().st_mtime_ns
    wait_for(lambda: file.stat().st_mtime_ns > before)
    with safe_open(file, framework="pt") as checkpoint:
        found["saved"] = int(checkpoint.metadata()["step"])
    workers = multiprocessing.active_children()
    os.kill(workers[-1].pid, signal.SIGKILL)
    for worker in workers:
        worker.join()
    fit.progress.unlink()
    wait_for(fit.progress.exists)
    found["resumed"] = int(json.loads(fit.progress.read_text())["step"])


def wait_for(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.usefixtures("one_thread")
def test_a_fit_ends_the_same_with_any_number_of_workers_and_with_one_of_them_killed(
    config: InterestConfig, random_items, random_moments, tmp_path: Path
) -> None:
    items, moments = random_items(20), random_moments(2, users=12)
    save_arrays(tmp_path / "arrays", items, moments, config)
    alone = SavedFit(tmp_path / "arrays", tmp_path / "a" / "version", tmp_path / "a" / "training")
    fit = SavedFit(
        tmp_path / "arrays", tmp_path / "b" / "version", tmp_path / "b" / "training", cache=tmp_path / "cache"
    )
    fit_saved(alone)

    def die(facts: dict[str, float]) -> None:
        if facts["epoch"] == 3:
            raise Killed

    with pytest.raises(Killed):
        fine_tune(items, moments, config, start_from=None, checkpoint=fit.checkpoint, progress=die)
    found: dict[str, int] = {}
    killer = Thread(target=kill_one, args=(fit, found))
    killer.start()
    launch(fit_saved, fit, 2)
    killer.join()

    steps = saved_history(alone.out)[-1]["step"]
    assert steps * 3 / config.epochs <= found["saved"] < found["resumed"] < steps
    curves = [[(h["loss"], h.get("held_out_loss")) for h in saved_history(one.out)] for one in (alone, fit)]
    assert curves[0] == curves[1]
    expected, weights = (InterestModel.load(one.out).trained() for one in (alone, fit))
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


def test_more_workers_than_passes_are_refused(
    config: InterestConfig, random_items, random_moments, tmp_path: Path
) -> None:
    with pytest.raises(InterestModelError, match=r"set interest\.accumulate to a multiple of 2"):
        fine_tune(
            random_items(20), random_moments(1), replace(config, accumulate=1), start_from=None,
            checkpoint=tmp_path, workers=Workers(0, 2),
        )  # fmt: skip


def test_workers_that_do_not_share_the_checkpoint_get_an_error(
    config: InterestConfig, random_items, random_moments, tmp_path: Path
) -> None:
    class Apart(Workers):
        def gather(self, value: object) -> list[object]:
            return [value, 7]

    with pytest.raises(InterestModelError, match=r"checkpoints of steps \[0, 7\]"):
        fine_tune(
            random_items(20), random_moments(1), config, start_from=None, checkpoint=tmp_path, workers=Apart()
        )


def test_what_no_restart_would_mend_is_raised_as_the_worker_raised_it() -> None:
    with pytest.raises(ValueError, match="invalid literal for int") as raised:
        launch(int, "seven", 2)

    assert "in worker" in raised.value.__notes__[0]


def test_restarts_come_to_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "RESTARTS", 0)
    before = signal.getsignal(signal.SIGTERM)

    with pytest.raises(RuntimeError, match="1 workers failed 1 times"):
        launch(os.listdir, str(tmp_path / "nowhere"), 1)

    assert signal.getsignal(signal.SIGTERM) is before


@dataclass(frozen=True)
class Threads(Workers):
    """Workers that are threads of this process."""

    meeting: Barrier = field(default_factory=partial(Barrier, 1))
    table: tuple[list[Tensor], ...] = ()

    def exchange(self, rows: Tensor) -> Tensor:
        return torch.stack([own[self.rank] for own in self._meet(rows)])

    def assemble(self, row: Tensor) -> Tensor:
        return torch.stack(self._meet(row))

    def _meet(self, mine: Tensor) -> list[Tensor]:
        self.table[self.rank][:] = [mine]
        self.meeting.wait()
        seen = [own[0] for own in self.table]
        self.meeting.wait()
        return seen


def _summed(size: int, passes: list[list[float | None]]) -> list[list[Tensor | None]]:
    """Each worker's gradients of parameters with 3, 1, … values after passes with these gradients."""
    result: list[list[Tensor | None]] = [[] for _ in range(size)]
    meeting, table = Barrier(size), tuple([] for _ in range(size))

    def work(rank: int) -> None:
        parameters = [nn.Parameter(torch.zeros(3 - 2 * (n % 2))) for n in range(len(passes[0]))]
        gradient = GradientSum(parameters, Threads(rank, size, meeting, table))
        for first in range(0, len(passes), size):
            if first + rank < len(passes):
                for parameter, value in zip(parameters, passes[first + rank], strict=True):
                    if value is not None:
                        parameter.grad = torch.full_like(parameter, value)
            gradient.add(min(size, len(passes) - first))
        gradient.finish()
        result[rank] = [parameter.grad for parameter in parameters]

    threads = [Thread(target=work, args=(rank,)) for rank in range(size)]
    _each(threads, Thread.start)
    _each(threads, Thread.join)
    return result


def _each(threads: list[Thread], call: Callable[[Thread], None]) -> None:
    for thread in threads:
        call(thread)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_gradients_are_summed_in_the_order_of_the_passes_whoever_made_them(size: int) -> None:
    # In another order the ones are lost beside the large numbers, or are not.
    passes = [[1e8, None, 1.0], [1.0, None, None], [-1e8, None, 2.0], [1.0, None, None], [0.5, None, 0.0]]

    for first, missing, last in _summed(size, passes):
        assert first is not None
        assert last is not None
        assert first.tolist() == [1.5] * 3
        assert missing is None
        assert last.tolist() == [3.0] * 3
