"""Global counters and then buckets of users give the same bits as one pass."""

from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.behaviour import Answers, lookup_and_update, lookup_globals
from features.buckets import bucket
from features.config.project import Project
from features.state import OWN, SHARED, MomentState, SliceEvents, counters, is_global, restore, start
from features.state.layout import code, in_order, place

KEYS = ["impression_id", "item_id"]


def of_bucket(frame: pl.DataFrame, number: int, buckets: int) -> pl.DataFrame:
    return frame.filter(bucket(frame["user_id"], buckets) == number)


def in_buckets(
    state: MomentState,
    events: SliceEvents,
    until: object,
    project: Project,
    vectors: pl.DataFrame,
    buckets: int,
) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """Features and state tables after a slice, computed one bucket of users at a time."""
    declared, before, every = counters(project.behaviour), state.tables(), in_order(events)
    placed = place(state, every, code(every.impressions, state.counted))
    nobody = SliceEvents(events.items, every.impressions.drop("user_id"), pl.DataFrame())
    answers, after = lookup_globals(state, nobody, placed.drop("user_id"), until, vectors)  # type: ignore[arg-type]
    lists = every.impressions["user_id"]
    rows = lists.gather(
        pl.int_range(len(lists), eager=True)
        .repeat_by(every.impressions["candidates"].list.len())
        .explode(empty_as_null=False)
    )
    frames, states = [], []
    for n in range(buckets):
        own = {name: of_bucket(before[name], n, buckets) for name, c in declared.items() if not is_global(c)}
        own |= {name: of_bucket(before[name], n, buckets) for name in OWN}
        previous = restore(state.at, own | {"items": before["items"]}, project.behaviour)
        part = SliceEvents(
            events.items,
            of_bucket(events.impressions, n, buckets),
            of_bucket(events.interactions, n, buckets),
        )
        listed, shown = bucket(lists, buckets) == n, bucket(rows, buckets) == n
        global_answers = Answers(
            answers.by_list.filter(listed), answers.by_candidate.filter(shown), answers.expected.filter(shown)
        )
        features, then = lookup_and_update(previous, part, until, vectors, global_answers)  # type: ignore[arg-type]
        frames.append(features)
        states.append(then.tables())
    tables = {
        name: after.tables()[name] if name in SHARED or (name in declared and is_global(declared[name]))
        else pl.concat(one[name] for one in states)
        for name in before
    }  # fmt: skip
    return pl.concat(frames), tables


def assert_same(
    toy: SimpleNamespace, world: SliceEvents, project: Project, cuts: list[object], buckets: int
) -> None:
    vectors, state = toy.vectors(world.items), start(project.slices.start, project.behaviour)
    for until in (*cuts, toy.END):
        events = toy.between(world, state.at, until)
        actual, tables = in_buckets(state, events, until, project, vectors, buckets)
        expected, state = lookup_and_update(state, events, until, vectors)
        assert actual.sort(KEYS).equals(expected.sort(KEYS))
        for name, table in state.tables().items():
            plain = [c for c, dtype in table.schema.items() if not dtype.is_nested() and not dtype.is_float()]
            assert tables[name].sort(plain).equals(table.sort(plain)), name


@settings(max_examples=6)
@given(data=st.data())
def test_however_many_buckets_features_and_state_are_the_same(
    toy: SimpleNamespace, data: st.DataObject
) -> None:
    world: SliceEvents = data.draw(toy.worlds())
    project: Project = data.draw(toy.projects())

    assert_same(toy, world, project, [toy.at(95), toy.at(200)], data.draw(st.integers(1, 4)))


@pytest.mark.parametrize("buckets", [1, 2, 4])
def test_a_hot_item_is_the_same_with_any_number_of_buckets(toy: SimpleNamespace, buckets: int) -> None:
    project = toy.project(features={"valued": ("view",)}, context={"categorical": ("surface",)})

    assert_same(toy, toy.busy(), project, [toy.at(300)], buckets)


@pytest.mark.parametrize("missing", ["impressions", "interactions", "both"])
def test_slices_without_impressions_or_interactions(toy: SimpleNamespace, missing: str) -> None:
    project, world = toy.project(), toy.busy(lists=30, users=1)
    less = SliceEvents(
        world.items,
        world.impressions if missing == "interactions" else world.impressions.clear(),
        world.interactions if missing == "impressions" else world.interactions.clear(),
    )

    assert_same(toy, less, project, [toy.at(300)], 2)
