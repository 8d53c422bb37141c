"""Point-in-time: a row uses only what was known strictly before its impression, for any slices and any row order."""

from datetime import datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.behaviour import advance, read_features
from features.config.project import Project
from features.state import MomentState, SliceEvents, counters, start
from features.state.histories import moments as moments_of
from models.interest_input import InterestInput, interest_input

KEYS = ["impression_id", "item_id"]


def assert_same_features(actual: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert actual.columns == expected.columns
    actual, expected = actual.sort(KEYS), expected.sort(KEYS)
    assert actual.select(KEYS).equals(expected.select(KEYS))
    for name in expected.columns[2:]:
        np.testing.assert_allclose(
            actual[name].to_numpy(), expected[name].to_numpy(), rtol=2e-6, atol=2e-6, err_msg=name
        )


def assert_same_state(actual: MomentState, expected: MomentState, project: Project) -> None:
    assert actual.at == expected.at
    for name in ("items", "open", "moments"):
        assert getattr(actual, name).equals(getattr(expected, name)), name
    keys = {grain: list(counter.keys) for grain, counter in counters(project.behaviour).items()}
    keys |= {"sessions": ["user_id", "session_id"], "shown": ["user_id", "item_id", "shown_at", "position"]}
    for name, of in keys.items():
        one, other = (state.tables()[name].sort(of) for state in (actual, expected))
        sums = other.select(pl.col(pl.Float64)).columns
        assert one.drop(sums).equals(other.drop(sums)), name
        np.testing.assert_allclose(
            one.select(sums).to_numpy(), other.select(sums).to_numpy(), rtol=1e-9, atol=1e-12, err_msg=name
        )


def known_at_most(events: SliceEvents, instant: datetime) -> SliceEvents:
    """Return the events that an impression at `instant` may use, and the impressions up to then."""
    return SliceEvents(
        events.items.filter(pl.col("known_at") < instant),
        events.impressions.filter(pl.col("shown_at") <= instant),
        events.interactions.filter(pl.col("known_at") < instant),
    )


def visible(inputs: InterestInput) -> dict[str, Any]:
    """Return what the interest model can read of each impression: tokens (item, action, instant) and candidates."""
    m, items = inputs.moments, inputs.items
    bags = np.split(items.attribute, items.attribute_start[1:-1])
    tokens = [
        (items.texts[text], tuple(bag), str(number), code)
        for text, bag, number, code in zip(items.text, bags, items.number, items.id, strict=False)
    ]
    ids = inputs.keys["impression_id"].unique(maintain_order=True)
    by_impression = {}
    for n, name in enumerate(ids):
        first = m.user_start[m.impression_user[n]]
        span = slice(first, first + m.impression_prefix[n])
        shown = slice(m.impression_start[n], m.impression_start[n + 1])
        by_impression[name] = (
            [
                (tokens[i], a, t)
                for i, a, t in zip(
                    m.history_item[span], m.history_action[span], m.history_at[span], strict=True
                )
            ],
            [tokens[i] for i in m.candidate_item[shown]],
        )
    return by_impression


@settings(max_examples=12)
@given(data=st.data())
def test_the_future_never_changes_the_past(toy: SimpleNamespace, data: st.DataObject) -> None:
    world: SliceEvents = data.draw(toy.worlds())
    project: Project = data.draw(toy.projects())
    instant: datetime = data.draw(st.sampled_from(sorted(world.impressions["shown_at"])))
    cut = data.draw(st.sampled_from([toy.START, toy.START + 5 * toy.STEP]).filter(lambda c: c <= instant))
    state = advance(start(project.slices.start, project.behaviour), toy.between(world, toy.START, cut), cut)
    everything = toy.between(world, cut, toy.END)
    past = known_at_most(everything, instant)
    variants = [past, everything]

    features = [read_features(state, events, toy.vectors(world.items)) for events in variants]
    moments = [moments_of(state, events) for events in variants]
    inputs = [visible(interest_input(state, events)) for events in variants]

    names = past.impressions["impression_id"].to_list()
    assert_same_features(features[1].filter(pl.col("impression_id").is_in(names)), features[0])
    before = [m.filter(pl.col("known_at") < instant) for m in moments]
    assert before[1].equals(before[0])
    assert {name: inputs[1][name] for name in names} == inputs[0]


@settings(max_examples=12)
@given(data=st.data())
def test_slice_boundaries_change_neither_features_nor_state(
    toy: SimpleNamespace, data: st.DataObject
) -> None:
    world: SliceEvents = data.draw(toy.worlds())
    instants = world.impressions["shown_at"].to_list() + world.interactions["known_at"].to_list()
    cuts = data.draw(
        st.sets(
            st.sampled_from([*instants, *(toy.START + n * toy.STEP for n in range(1, 31))]),
            min_size=1,
            max_size=4,
        )
    )

    project: Project = data.draw(toy.projects())

    features, state = toy.walk(world, project)
    cut_features, cut_state = toy.walk(world, project, cuts)

    assert_same_features(cut_features, features)
    assert_same_state(cut_state, state, project)


@settings(max_examples=12)
@given(data=st.data())
def test_the_order_of_rows_does_not_matter(toy: SimpleNamespace, data: st.DataObject) -> None:
    world: SliceEvents = data.draw(toy.worlds())
    seed = data.draw(st.integers(0, 1000))
    tables = (world.items, world.impressions, world.interactions)
    shuffled = SliceEvents(
        *(t.sample(fraction=1.0, shuffle=True, seed=seed + n) for n, t in enumerate(tables))
    )

    project: Project = data.draw(toy.projects())

    features, state = toy.walk(world, project)
    other_features, other_state = toy.walk(shuffled, project)

    assert_same_features(other_features, features)
    assert_same_state(other_state, state, project)


@pytest.mark.parametrize("kind", ["item", "impression", "click"])
def test_events_known_at_the_same_instant_are_not_used(toy: SimpleNamespace, kind: str) -> None:
    project, shown = toy.project(), toy.at(60)

    def features_if(known_at: datetime) -> pl.DataFrame:
        events = SliceEvents(
            toy.items(
                toy.item("a", toy.START, "text 0", category="c"),
                *([toy.item("a", known_at, "text 1", category="d")] if kind == "item" else []),
            ),
            toy.impressions(
                ("old", "u", toy.at(5), ["a"]),
                ("r", "u", shown, ["a", "b"]),
                *([("s", "u", known_at, ["a", "b"], {"session": "y"})] if kind == "impression" else []),
            ),
            toy.interactions(
                ("u", "a", "click", toy.at(6)), *([("u", "a", "click", known_at)] if kind == "click" else [])
            ),
        )
        return toy.walk(events, project)[0].filter(pl.col("impression_id") == "r")

    later, at_once, just_before = (features_if(when) for when in (toy.at(90), shown, shown - toy.MICROSECOND))

    assert at_once.equals(later)
    assert not just_before.equals(later)


@settings(max_examples=12)
@given(data=st.data())
def test_an_impression_reads_only_moments_known_before_it(toy: SimpleNamespace, data: st.DataObject) -> None:
    world: SliceEvents = data.draw(toy.worlds())
    project: Project = toy.project()
    state = start(project.slices.start, project.behaviour)
    moments = moments_of(state, world)

    inputs = visible(interest_input(state, world))

    for name, user, shown_at in world.impressions.select("impression_id", "user_id", "shown_at").iter_rows():
        known = moments.filter((pl.col("user_id") == user) & (pl.col("known_at") < shown_at))
        codes = [["click", "comment", "skipped"].index(action) for action in known["action"]]
        assert [token[1] for token in inputs[name][0]] == codes
        assert [token[2] for token in inputs[name][0]] == [t.timestamp() for t in known["known_at"]]
