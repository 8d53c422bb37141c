"""Slices made in buckets, through files, hold what slices made in one go hold."""

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
from pipelines.compute.engine import Embedded
from pipelines.compute.scratch import Scratch
from pipelines.dagster_names import asset_key
from pipelines.definitions import advance_job
from pipelines.deployment import Deployment
from pipelines.lake import STATE, Lake
from pipelines.settings import settings as settings_of

BOTH = frozenset({"features", STATE})
KEYS = ["impression_id", "item_id"]
NEWSROOM = Path(__file__).parents[3] / "projects" / "newsroom.toml"
DAYS = ["2026-01-05", "2026-01-06"]
SMALL = (
    "source.newsroom.days=2",
    "source.newsroom.users=30",
    "source.newsroom.articles_a_day=12",
    "source.newsroom.impressions_a_day=60",
    "source.newsroom.list_size=8",
    "slices.end=2026-01-07T00:00:00Z",
)


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
    """A lake with the world's events, slice by slice."""
    lake, slices = Lake(str(folder)), declared(toy, 1).slices
    for slice in slices.keys(toy.START, toy.END):
        part = toy.between(world, *slices.window(slice))
        for name in ("items", "impressions", "interactions"):
            lake.write(name, slice, getattr(part, name))
        lake.write("item_vectors", slice, toy.vectors(part.items))
    return lake


def work(toy: SimpleNamespace, lake: Lake, slice: str, buckets: int, wanted: frozenset[str] = BOTH) -> Work:
    scratch = Scratch(f"{lake.root}-scratch/{slice}")
    return Work(declared(toy, buckets), lake, scratch, slice, wanted)


def tables(lake: Lake) -> dict[str, pl.DataFrame]:
    """What was made, in an order that says nothing of buckets."""
    return {
        name: frame.sort(
            [c for c, dtype in frame.schema.items() if not dtype.is_float() and not dtype.is_nested()]
        )
        for name in lake.tables()
        if name == "features" or name.startswith(STATE)
        for frame in [lake.read(name)]
    }


def assert_same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """To the bit, but for texts, which are compared in batches of lists."""
    texts = pl.selectors.starts_with("text_")
    assert found.drop(texts).equals(expected.drop(texts))
    for name in expected.select(texts).columns:
        one, other = (frame[name].to_numpy() for frame in (found, expected))
        np.testing.assert_allclose(one, other, rtol=1.2e-7, atol=1e-12, err_msg=name)


class Twice(Embedded):
    """Does every task a second time before the next, as after the loss of a worker that had nearly done it."""

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> list[Any]:
        return [(function(task), function(task))[1] for task in tasks]


def test_slices_in_buckets_are_those_in_one_go(
    toy: SimpleNamespace, world: SliceEvents, tmp_path: Path
) -> None:
    lake, project, state = prepare(toy, world, tmp_path / "lake"), declared(toy, 1), start(declared(toy, 1))
    vectors = toy.vectors(world.items)
    expected = Lake(str(tmp_path / "expected"))
    for slice, buckets in zip(project.slices.keys(toy.START, toy.END), (3, 1, 2), strict=True):
        until = project.slices.window(slice)[1]
        features, state = lookup_and_update(
            state, toy.between(world, state.at, until), until, project, vectors
        )
        expected.write("features", slice, features)
        for name, table in state.tables().items():
            expected.write(f"{STATE}/{name}", slice, table)
        made = make(work(toy, lake, slice, buckets), Embedded())
        assert made["features"].written.rows == features.height

    found, right = tables(lake), tables(expected)

    assert found.keys() == right.keys()
    for name, table in right.items():
        assert_same(found[name].select(table.columns), table)
    assert not list(Path(f"{lake.root}-scratch").rglob("*"))


def first(toy: SimpleNamespace) -> str:
    return declared(toy, 1).slices.key(toy.START)


def test_tasks_that_are_done_twice_change_nothing(
    toy: SimpleNamespace, world: SliceEvents, tmp_path: Path
) -> None:
    once, twice = (prepare(toy, world, tmp_path / name) for name in ("once", "twice"))

    make(work(toy, once, first(toy), 2), Embedded())
    make(work(toy, twice, first(toy), 2), Twice())

    found, right = tables(twice), tables(once)
    assert all(found[name].equals(right[name]) for name in right)


def test_what_a_killed_run_left_behind_is_removed_and_a_broken_run_leaves_nothing(
    toy: SimpleNamespace, world: SliceEvents, tmp_path: Path
) -> None:
    lake = prepare(toy, world, tmp_path / "lake")
    given = work(toy, lake, first(toy), 2)
    given.scratch.write("old/answers/0", {"lists": pl.DataFrame({"a": [1]})})

    class Lost(Embedded):
        def map(self, function: Any, tasks: Any) -> Any:
            if function.func.__name__ == "count":
                assert len(list(Path(given.scratch.root).iterdir())) == 1
                raise OSError("no space left")
            return super().map(function, tasks)

    with pytest.raises(OSError, match="no space"):
        make(given, Lost())

    assert not Path(given.scratch.root).exists()
    assert not lake.slices("features")
    assert make(given, Embedded())["features"].written.rows > 0


@pytest.mark.parametrize("wanted", ["features", STATE])
def test_only_what_is_wanted_is_written(
    toy: SimpleNamespace, world: SliceEvents, tmp_path: Path, wanted: str
) -> None:
    lake = prepare(toy, world, tmp_path / "lake")

    made = make(work(toy, lake, first(toy), 2, frozenset({wanted})), Embedded())

    assert {name.partition("/")[0] for name in made} == {wanted}
    assert tables(lake).keys() == made.keys()


def test_frames_come_back_from_the_scratch_as_they_were(tmp_path: Path) -> None:
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


def test_the_asset_makes_its_slices_in_buckets(tmp_path: Path) -> None:
    shown = {}
    for buckets in (1, 2):
        made = newsroom(tmp_path / str(buckets), f"scale.buckets={buckets}")
        with dg.DagsterInstance.from_config(str(made.settings.dagster_home)) as instance:
            result = advance_job(made).execute_in_process(
                instance=instance,
                tags={
                    "dagster/asset_partition_range_start": DAYS[0],
                    "dagster/asset_partition_range_end": DAYS[-1],
                },
                asset_selection=[
                    asset_key(made.project, "moment_state"),
                    asset_key(made.project, "features"),
                ],
            )
            records = instance.fetch_materializations(asset_key(made.project, "features"), limit=9).records
        assert result.success
        shown[buckets] = made.lake.read("features"), tables(made.lake), len(records)

    (one, state, records), (other, other_state, _) = shown[1], shown[2]
    assert records == shown[2][2] == 2
    assert one.columns == other.columns
    assert_same(other.sort(KEYS), one.sort(KEYS))
    assert {n: t.height for n, t in state.items()} == {n: t.height for n, t in other_state.items()}


def newsroom(home: Path, *more: str) -> Deployment:
    """A small newsroom whose events are in the lake."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOMENTRANK_HOME", str(home))
        patch.setenv("MOMENTRANK_PROJECT", str(NEWSROOM))
        patch.setenv("MOMENTRANK_SET", "\n".join((*SMALL, *more)))
        settings = settings_of.load()
    settings_of.initialise_dagster(settings)
    made = Deployment(settings.open_project(), settings)
    found = made.ingest()
    for slice in DAYS:
        for name in ("items", "impressions", "interactions"):
            made.lake.write(name, slice, getattr(found, name).filter(slice=slice))
        made.lake.write("item_vectors", slice, ItemVectors.create_empty())
    return made
