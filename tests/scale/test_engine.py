"""`map` and `train` give equal results on a cluster and in one process, also when parts are killed."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from features.errors import SourceError
from pipelines.compute.engine import Cluster, Engine

SECONDS = 60


@pytest.fixture
def cluster(machines: Any) -> Cluster:
    return Cluster(machines.address)


@dataclass(frozen=True)
class Square:
    """Squares a number; records where it runs and can wait for a signal file."""

    folder: Path
    slow: bool = False
    dies_at: int | None = None

    def __call__(self, number: int) -> int:
        import ray

        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "here"
        (self.folder / f"{number}-{node}-{time.monotonic_ns()}").touch()
        if number == self.dies_at and first(self.folder / "died"):
            os.kill(os.getpid(), signal.SIGKILL)
        while self.slow and not (self.folder / "go").exists():
            time.sleep(0.05)
        if number < 0:
            raise SourceError(f"{number} has no square here")
        return number * number


@dataclass(frozen=True)
class Ended:
    """Uses its process group after its end, as a worker does when Ray has lost another one; works on retry."""

    folder: Path

    def __call__(self, config: int) -> None:
        import torch.distributed as dist

        if first(self.folder / "ended"):
            dist.destroy_process_group()
        dist.barrier()
        (self.folder / "done").touch()


@dataclass(frozen=True)
class Sum:
    """Sums rank + `config` over workers; one dies in the first attempt, the second raises a data error."""

    folder: Path

    def __call__(self, config: int) -> None:
        from models.interest.workers import Workers

        with Workers.join() as workers:
            values = workers.gather(int(os.environ["RANK"]) + config)
            if workers.rank == 1 and first(self.folder / "died"):
                os.kill(os.getpid(), signal.SIGKILL)
            workers.barrier()
            if workers.rank == 0:
                with (self.folder / "sums").open("a", encoding="utf-8") as file:
                    file.write(f"{sum(values)} of {workers.size}\n")
                raise SourceError("a list has no candidates")
            workers.barrier()


def first(file: Path) -> bool:
    """Return True on the first call for a file."""
    try:
        file.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def count(folder: Path, pattern: str) -> int:
    return len([*folder.glob(pattern)])


def test_both_engines_return_equal_results_in_task_order(cluster: Cluster, tmp_path: Path) -> None:
    expected = [number**2 for number in range(7)]

    assert Engine().map(Square(tmp_path), range(7)) == expected
    assert cluster.map(Square(tmp_path), range(7), at_once=2) == expected


def test_a_data_error_is_raised_unchanged_and_not_retried(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^-1 has no square here$"):
        cluster.map(Square(tmp_path), [1, -1])

    assert count(tmp_path, "-1-*") == 1


def test_a_killed_process_is_replaced_and_its_task_retried(cluster: Cluster, tmp_path: Path) -> None:
    assert cluster.map(Square(tmp_path, dies_at=3), range(7)) == [number**2 for number in range(7)]

    assert count(tmp_path, "3-*") == 2
    assert count(tmp_path, "5-*") == 1


def test_other_nodes_do_the_work_of_a_lost_node(machines: Any, cluster: Cluster, tmp_path: Path) -> None:
    lost = machines.workers[0]

    def kill() -> None:
        until = time.monotonic() + SECONDS
        while not count(tmp_path, f"*-{lost.node_id}-*") and time.monotonic() < until:
            time.sleep(0.05)
        machines.kill(lost)
        (tmp_path / "go").touch()

    killer = Thread(target=kill)
    killer.start()
    results = cluster.map(Square(tmp_path, slow=True), range(8))
    killer.join()

    assert results == [number**2 for number in range(8)]
    again = [n for n in range(8) if count(tmp_path, f"{n}-*") == 2]
    assert count(tmp_path, f"*-{lost.node_id}-*") == len(again) > 0


def test_training_workers_restart_when_one_is_killed_and_stop_at_a_data_error(
    cluster: Cluster, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=r"^a list has no candidates$"):
        cluster.train(Sum(tmp_path), 1, 2)

    assert (tmp_path / "died").exists()
    assert (tmp_path / "sums").read_text(encoding="utf-8") == "3 of 2\n"


def test_what_a_worker_raises_after_its_group_ended_is_retried(cluster: Cluster, tmp_path: Path) -> None:
    cluster.train(Ended(tmp_path), 1, 1)

    assert (tmp_path / "done").exists()
