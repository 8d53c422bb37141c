"""Buckets of people and ticks of time give what one go gives."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features import newsroom, sources
from features.advance import advanced
from features.behaviour import read_and_advance, table
from features.decay import Scan, scan
from features.events import build
from features.facts import Facts
from features.project import Project, load
from features.schemas import ItemVectors
from features.shuffle import crowd as crowds
from features.shuffle.people import OWN, Answered, gather, in_order, items_of, tell, tell_positions, together
from features.shuffle.ticks import Ticks, bucket_key, in_buckets
from features.state import MomentState, SliceEvents, counters, shared, start
from features.versions import latest, versions

KEYS = ["impression_id", "item_id"]
ULP = float(np.finfo(np.float32).eps)
quick = settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def of_items(items: pl.DataFrame, met: pl.DataFrame) -> pl.DataFrame:
    return items.join(met, on="item_id", how="semi")


def people(state: MomentState, events: SliceEvents, buckets: int, project: Project) -> Iterator[Facts]:
    """Each bucket's facts."""
    lists = in_buckets(events.impressions, "user_id", buckets)
    done = in_buckets(events.interactions, "user_id", buckets)
    own = {name: in_buckets(getattr(state, name), "user_id", buckets) for name in OWN}
    totals = {
        grain: in_buckets(state.totals[grain], "user_id", buckets)
        for grain, counter in counters(project).items()
        if not shared(counter)
    }
    for bucket in range(buckets):
        mine = {name: parts[bucket] for name, parts in own.items()}
        met = items_of(lists[bucket], done[bucket], mine["open"], mine["moments"])
        told = SliceEvents(of_items(events.items, met), lists[bucket], done[bucket])
        numbers = {grain: parts[bucket] for grain, parts in totals.items()}
        before = MomentState(state.at, numbers, of_items(state.items, met), **mine)
        yield Facts(before, in_order(told), project)


def shuffled(
    state: MomentState,
    events: SliceEvents,
    until: datetime,
    project: Project,
    vectors: pl.DataFrame,
    buckets: int,
    tick: timedelta,
) -> tuple[pl.DataFrame, MomentState]:
    """`read_and_advance` in buckets and ticks, frames handed on in memory."""
    ticks, declared = Ticks(state.at, until, tick), counters(project)
    every = list(people(state, events, buckets, project))
    told = [list(parts) for parts in zip(*(tell(facts, ticks) for facts in every), strict=True)]
    counted = together([tell_positions(facts, ticks) for facts in every])
    found = {"position": scan(state.totals["position"], counted, declared["position"], state.at, until)}

    def crowd(n: int) -> crowds.Crowd:
        at = pl.col("at") == ticks.window(n)[0]
        met = items_of(pl.concat(part.lists for part in told[n]), *(part.done for part in told[n]))
        starts = {grain: one.starts.filter(at).drop("at") for grain, one in found.items()}
        items = of_items(state.items, met), of_items(events.items, met)
        return crowds.crowd(told[n], starts, items, project, ticks, n)

    sums = [crowds.add(crowd(n), ticks, n) for n in range(len(ticks))]
    for grain, counter in crowds.scanned(project).items():
        key = bucket_key(counter)
        of_grain = in_buckets(pl.concat(part[grain] for part in sums), key, buckets)
        before = in_buckets(state.totals[grain], key, buckets)
        parts = [scan(t, s, counter, state.at, until) for t, s in zip(before, of_grain, strict=True)]
        found[grain] = Scan(*map(pl.concat, zip(*parts, strict=True)))
    answers = [crowds.reply(crowd(n), told[n]) for n in range(len(ticks))]

    tables, states = [], []
    for facts, told_back in zip(every, zip(*answers, strict=True), strict=True):
        read, expected = gather(list(told_back))
        answered = Answered(facts.state, facts.events, project, expected)
        tables.append(table(answered, vectors, read))
        states.append(advanced(answered, until))
    totals = {grain: one.totals for grain, one in found.items()}
    totals |= {grain: pl.concat(one.totals[grain] for one in states) for grain in states[0].totals}
    own = {name: pl.concat(getattr(one, name) for one in states) for name in OWN}
    items = latest(versions(state.items, events.items))
    return pl.concat(tables), MomentState(until, totals, items, **own)


def assert_same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Row for row by key; features to one step of Float32."""
    found, expected = found.sort(KEYS), expected.sort(KEYS)
    assert found.schema == expected.schema
    assert found.select(KEYS).equals(expected.select(KEYS))
    for name in expected.columns[2:]:
        one, other = (frame[name].to_numpy() for frame in (found, expected))
        np.testing.assert_allclose(one, other, rtol=ULP, atol=1e-12, err_msg=name)


def assert_same_state(found: MomentState, expected: MomentState, project: Project) -> None:
    """The same rows, whatever their order; totals to 1e-12."""
    keys: dict[str, list[str]] = {grain: list(c.keys) for grain, c in counters(project).items()}
    keys |= {"items": ["item_id"], "open": ["impression_id", "position"], "sessions": ["user_id", "session_id"],
             "shown": ["user_id", "item_id", "shown_at", "position"],
             "moments": ["user_id", "known_at", "item_id", "action"]}  # fmt: skip
    assert found.at == expected.at
    for name, of in keys.items():
        one, other = (state.tables()[name].sort(of) for state in (found, expected))
        sums = other.select(pl.col(pl.Float64)).columns
        assert one.schema == other.schema, name
        assert one.drop(sums).equals(other.drop(sums)), name
        np.testing.assert_allclose(
            one.select(sums).to_numpy(), other.select(sums).to_numpy(), rtol=1e-12, atol=1e-15, err_msg=name
        )


def walk(toy: SimpleNamespace, world: SliceEvents, project: Project, cuts: Any, ways: Any) -> None:
    """Slice by slice, each way: the states go on from their own, so that differences would add up."""
    vectors = toy.vectors(world.items)
    state = other = start(project)
    for until, (buckets, tick) in zip((*sorted(cuts), toy.END), ways, strict=True):
        part = toy.between(world, state.at, until)
        expected, state = read_and_advance(state, part, until, project, vectors)
        found, other = shuffled(other, part, until, project, vectors, buckets, tick)
        assert_same(found, expected)
        assert_same_state(other, state, project)


@quick
@given(data=st.data())
def test_however_many_buckets_and_ticks_features_and_state_are_the_same(
    toy: SimpleNamespace, data: st.DataObject
) -> None:
    world: SliceEvents = data.draw(toy.worlds())
    project: Project = data.draw(toy.projects())
    cuts = data.draw(st.sets(st.sampled_from([toy.at(95), toy.at(200)]), max_size=2))
    way = st.tuples(st.integers(1, 4), st.sampled_from([timedelta(minutes=m) for m in (25, 90, 240, 720)]))
    ways = data.draw(st.lists(way, min_size=len(cuts) + 1, max_size=len(cuts) + 1))

    walk(toy, world, project, cuts, ways)


@pytest.fixture(scope="module")
def project(toy: SimpleNamespace) -> Project:
    return toy.project(features={"valued": ("view",)}, context={"categorical": ("surface",)})


@pytest.mark.parametrize(("buckets", "minutes"), [(1, 720), (2, 240), (4, 90)])
def test_a_hot_item_is_the_same_in_any_buckets_and_ticks(
    toy: SimpleNamespace, project: Project, buckets: int, minutes: int
) -> None:
    way = (buckets, timedelta(minutes=minutes))

    walk(toy, toy.busy(), project, [toy.at(300)], [way, way])


def test_of_a_hot_item_no_more_than_a_row_a_tick_travels(toy: SimpleNamespace, project: Project) -> None:
    world, ticks = toy.between(toy.busy(), toy.START, toy.END), Ticks(toy.START, toy.END, timedelta(hours=1))
    told = tell(Facts(start(project), in_order(world), project), ticks)
    travelled, met = [], items_of(world.impressions)
    for n, part in enumerate(told):
        known = of_items(world.items, met), world.items.clear()
        travelled.append(crowds.add(crowds.crowd([part], {}, known, project, ticks, n), ticks, n)["item"])

    every = pl.concat(travelled)

    assert every.filter(item_id="hot").height == len(ticks)
    assert sum(part.lists.height for part in told) == world.impressions.height > 5 * len(ticks)
    assert every["clicks_all"].sum() == world.interactions.filter(kind="click").height > 5


def test_slices_where_nothing_was_shown_or_done_or_by_one_alone(
    toy: SimpleNamespace, project: Project
) -> None:
    world = toy.busy(lists=30, users=1)
    empty = SliceEvents(world.items.clear(), world.impressions.clear(), world.interactions.clear())
    way = (2, timedelta(hours=6))

    for events in (
        world,
        empty,
        replace(world, impressions=world.impressions.clear()),
        replace(world, interactions=world.interactions.clear()),
        replace(world, impressions=world.impressions.filter(pl.col("shown_at") < toy.at(300))),
    ):
        walk(toy, events, project, [toy.at(300)], [way, way])


def test_two_runs_are_the_same_to_the_bit_whatever_order_rows_come_in(
    toy: SimpleNamespace, project: Project
) -> None:
    world = toy.busy()
    mixed = SliceEvents(
        *(
            t.sample(fraction=1.0, shuffle=True, seed=3)
            for t in (world.items, world.impressions, world.interactions)
        )
    )
    vectors = toy.vectors(world.items)

    (one, state), (other, other_state) = (
        shuffled(start(project), events, toy.END, project, vectors, 3, timedelta(hours=2))
        for events in (world, mixed)
    )

    assert one.equals(other)
    for name, found in state.tables().items():
        assert found.equals(other_state.tables()[name]), name


def test_a_small_newsroom_is_the_same_in_buckets(tmp_path: Path) -> None:
    project = load(
        Path(__file__).parents[2] / "projects" / "newsroom.toml",
        ("source.newsroom.days=2", "source.newsroom.users=40", "source.newsroom.articles_a_day=12",
         "source.newsroom.impressions_a_day=150", "source.newsroom.list_size=10"),
    )  # fmt: skip
    newsroom.write(project, tmp_path)
    found = build(
        sources.read(project, [tmp_path / "events"]), project, project.slices.start + timedelta(days=9)
    )
    state = other = start(project)
    for slice in sorted(found.impressions["slice"].unique())[:2]:
        events = SliceEvents(
            *(
                t.filter(slice=slice).drop("slice")
                for t in (found.items, found.impressions, found.interactions)
            )
        )
        until, nothing = project.slices.window(slice)[1], ItemVectors.create_empty()
        expected, state = read_and_advance(state, events, until, project, nothing)
        read, other = shuffled(other, events, until, project, nothing, 3, timedelta(hours=6))
        assert read.height > 1000
        assert_same(read, expected)
        assert_same_state(other, state, project)
