"""Features and state on a cluster equal those of one process, also when a node dies midway."""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from features.config.project import Project
from pipelines.compute.bucketed import Work, make
from pipelines.compute.engine import Cluster, Engine
from pipelines.compute.scratch import Scratch
from pipelines.lake import STATE, Lake

SECONDS = 60


@pytest.fixture(scope="module")
def project(toy: SimpleNamespace) -> Project:
    declared: Project = toy.project(
        slices={"every": "6h"},
        context={"categorical": ("surface",)},
        scale={"buckets": 3},
    )
    return declared


def made(toy: SimpleNamespace, project: Project, folder: Path, engine: Engine) -> dict[str, pl.DataFrame]:
    """Run two slices of half a day; return every table."""
    world, lake = toy.busy(), Lake(str(folder / "lake"))
    for slice in project.slices.keys(toy.START, toy.END):
        part = toy.between(world, *project.slices.window(slice))
        for name in ("items", "impressions", "interactions"):
            lake.write(name, slice, getattr(part, name))
        lake.write("item_vectors", slice, toy.vectors(part.items))
        make(
            Work(project, lake, Scratch(str(folder / "scratch")), slice, frozenset({"features", STATE})),
            engine,
        )
    assert not (folder / "scratch").exists()
    return {name: lake.read(name) for name in lake.tables()}


class Watched:
    """An engine that sets an event when tasks of a given name start."""

    def __init__(self, engine: Engine, name: str, begun: Event) -> None:
        self._engine, self._name, self._begun = engine, name, begun

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> list[Any]:
        if getattr(function, "func", function).__name__ == self._name:
            self._begun.set()
        return self._engine.map(function, tasks)


def test_a_cluster_writes_the_tables_of_one_process_also_when_a_node_is_lost(
    toy: SimpleNamespace, project: Project, machines: Any, tmp_path: Path
) -> None:
    begun, lost, gone = Event(), machines.workers[0], Event()

    def kill() -> None:
        assert begun.wait(SECONDS)
        machines.kill(lost)
        gone.set()

    expected = made(toy, project, tmp_path / "embedded", Engine())
    whole = made(toy, project, tmp_path / "cluster", Cluster(machines.address))
    killer = Thread(target=kill)
    killer.start()
    maimed = made(toy, project, tmp_path / "maimed", Watched(Cluster(machines.address), "attribute", begun))
    killer.join()

    assert gone.is_set()
    assert expected["features"].height == 480
    for tables in (whole, maimed):
        assert tables.keys() == expected.keys()
        for name, table in expected.items():
            assert tables[name].equals(table), name
