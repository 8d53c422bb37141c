"""Slices computed in buckets equal slices computed in one process."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from features.behaviour import lookup_and_update
from features.config.project import Project
from features.schemas import ItemVectors
from features.state import SliceEvents, start
from pipelines.compute.bucketed import Work, make
from pipelines.compute.engine import Engine
from pipelines.compute.scratch import Scratch
from pipelines.dagster_names import asset_key
from pipelines.definitions import advance_job
from pipelines.deployment import Deployment
from pipelines.lake import STATE, Lake
from pipelines.triggers.partitions import range_tags

BOTH = frozenset({"features", STATE})
DAYS = ["2026-01-05", "2026-01-06"]


@pytest.fixture(scope="module")
def world(toy: SimpleNamespace) -> SliceEvents:
    return toy.busy()


def declared(toy: SimpleNamespace, buckets: int) -> Project:
    return toy.project(
        slices={"every": "4h"},
        features={"valued": ("view",)},
        context={"categorical": ("surface",)},
        scale={"buckets": buckets},
    )


def prepare(toy: SimpleNamespace, world: SliceEvents, folder: Path) -> Lake:
    """A lake with the world's events by slice."""
    lake, slices = Lake(str(folder)), declared(toy, 1).slices
    for slice in slices.keys(toy.START, toy.END):
        part = toy.between(world, *slices.window(slice))
        for name in ("items", "impressions", "interactions"):
            lake.write(name, slice, getattr(part, name))
        lake.write("item_vectors", slice, toy.vectors(part.items))
    return lake


def work(toy: SimpleNamespace, lake: Lake, slice: str, buckets: int, outputs: frozenset[str] = BOTH) -> Work:
    scratch = Scratch(f"{lake.root}-scratch/{slice}")
    return Work(declared(toy, buckets), lake, scratch, slice, outputs)


def tables(lake: Lake) -> dict[str, pl.DataFrame]:
    """The published tables, sorted independently of buckets."""
    return {
        name: frame.sort(
            [c for c, dtype in frame.schema.items() if not dtype.is_float() and not dtype.is_nested()]
        )
        for name in lake.tables()
        if name == "features" or name.startswith(STATE)
        for frame in [lake.read(name)]
    }


def assert_same(actual: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Equal to the bit, except text similarities, which are computed in batches of impressions."""
    texts = pl.selectors.starts_with("text_")
    assert actual.drop(texts).equals(expected.drop(texts))
    for name in expected.select(texts).columns:
        one, other = (frame[name].to_numpy() for frame in (actual, expected))
        np.testing.assert_allclose(one, other, rtol=1.2e-7, atol=1e-12, err_msg=name)


class Twice(Engine):
    """Runs every task twice in a row, as after the loss of a worker that had nearly finished."""

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> list[Any]:
        return [(function(task), function(task))[1] for task in tasks]


def test_slices_in_buckets_equal_those_of_one_process_even_if_tasks_run_twice(
    toy: SimpleNamespace, world: SliceEvents, tmp_path: Path
) -> None:
    lake, project, state = (
        prepare(toy, world, tmp_path / "lake"),
        declared(toy, 1),
        start(declared(toy, 1).slices.start, declared(toy, 1).behaviour),
    )
    vectors = toy.vectors(world.items)
    expected = Lake(str(tmp_path / "expected"))
    for slice, buckets in zip(project.slices.keys(toy.START, toy.END), (3, 1, 2), strict=True):
        until = project.slices.window(slice)[1]
        features, state = lookup_and_update(state, toy.between(world, state.at, until), until, vectors)
        expected.write("features", slice, features)
        for name, table in state.tables().items():
            expected.write(f"{STATE}/{name}", slice, table)
        published = make(work(toy, lake, slice, buckets), Twice())
        assert published["features"].written.rows == features.height

    actual, right = tables(lake), tables(expected)

    assert actual.keys() == right.keys()
    for name, table in right.items():
        assert_same(actual[name].select(table.columns), table)
    assert not list(Path(f"{lake.root}-scratch").rglob("*"))


def first(toy: SimpleNamespace) -> str:
    return declared(toy, 1).slices.key(toy.START)


def test_scratch_is_removed_before_a_run_and_after_a_failure(
    toy: SimpleNamespace, world: SliceEvents, tmp_path: Path
) -> None:
    lake = prepare(toy, world, tmp_path / "lake")
    slice_work = work(toy, lake, first(toy), 2)
    slice_work.scratch.write("old/answers/0", {"lists": pl.DataFrame({"a": [1]})})

    class Lost(Engine):
        def map(self, function: Any, tasks: Any) -> Any:
            if function.func.__name__ == "count_global":
                assert len(list(Path(slice_work.scratch.root).iterdir())) == 1
                raise OSError("no space left")
            return super().map(function, tasks)

    with pytest.raises(OSError, match="no space"):
        make(slice_work, Lost())

    assert not Path(slice_work.scratch.root).exists()
    assert not lake.slices("features")
    assert make(slice_work, Engine())["features"].written.rows > 0


@pytest.mark.parametrize("outputs", ["features", STATE])
def test_only_the_requested_outputs_are_written(
    toy: SimpleNamespace, world: SliceEvents, tmp_path: Path, outputs: str
) -> None:
    lake = prepare(toy, world, tmp_path / "lake")

    published = make(work(toy, lake, first(toy), 2, frozenset({outputs})), Engine())

    assert {name.partition("/")[0] for name in published} == {outputs}
    assert tables(lake).keys() == published.keys()


def test_frames_survive_the_scratch_round_trip(tmp_path: Path) -> None:
    scratch = Scratch(f"file://{tmp_path}/a b")
    frames = {
        "few": pl.DataFrame({"x": [1, None], "y": [None, None]}, schema={"x": pl.Int32, "y": pl.String}),
        "none": pl.DataFrame(schema={"x": pl.List(pl.String)}),
        "bare": pl.DataFrame(),
    }

    scratch.write("one/two", frames)

    for name, frame in frames.items():
        assert scratch.read("one/two", name).equals(frame)
        assert scratch.read("one/two", name).schema == frame.schema
    scratch.remove()
    assert not (tmp_path / "a b").exists()


def test_the_asset_computes_its_slices_in_buckets(
    tmp_path: Path, small_newsroom: Callable[..., Deployment]
) -> None:
    two_days = ("source.newsroom.days=2", "slices.end=2026-01-07T00:00:00Z")
    deployment = small_newsroom(tmp_path, "scale.buckets=2", *two_days)
    events = deployment.ingest()
    for slice in DAYS:
        for name in ("items", "impressions", "interactions"):
            deployment.lake.write(name, slice, getattr(events, name).filter(slice=slice))
        deployment.lake.write("item_vectors", slice, ItemVectors.create_empty())
    keys = [asset_key(deployment.project.name, name) for name in ("moment_state", "features")]
    with dg.DagsterInstance.from_config(str(deployment.settings.dagster_home)) as instance:
        result = advance_job(deployment).execute_in_process(
            instance=instance, tags=range_tags(DAYS[0], DAYS[-1]), asset_selection=keys
        )
        records = instance.fetch_materializations(keys[1], limit=9).records

    assert result.success
    assert len(records) == 2
    shown = deployment.lake.read("impressions")["candidates"].list.len().sum()
    assert deployment.lake.read("features").height == shown
    assert all(deployment.lake.slices(table) == DAYS for table in tables(deployment.lake))
