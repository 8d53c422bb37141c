"""The law: what a row knows was known strictly before its impression, however time is cut or rows are ordered."""

from datetime import datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.behaviour import advance, read_features
from features.config.project import Project
from features.state import MomentState, SliceEvents, counters, start
from features.state.histories import moments as moments_of
from models.interest_input import InterestInput, interest_input

KEYS = ["impression_id", "item_id"]
quick = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def assert_same_features(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert found.columns == expected.columns
    found, expected = found.sort(KEYS), expected.sort(KEYS)
    assert found.select(KEYS).equals(expected.select(KEYS))
    for name in expected.columns[2:]:
        np.testing.assert_allclose(
            found[name].to_numpy(), expected[name].to_numpy(), rtol=2e-6, atol=2e-6, err_msg=name
        )


def assert_same_state(found: MomentState, expected: MomentState, project: Project) -> None:
    assert found.at == expected.at
    for name in ("items", "open", "moments"):
        assert getattr(found, name).equals(getattr(expected, name)), name
    keys = {grain: list(counter.keys) for grain, counter in counters(project).items()}
    keys |= {"sessions": ["user_id", "session_id"], "shown": ["user_id", "item_id", "shown_at", "position"]}
    for name, of in keys.items():
        one, other = (state.tables()[name].sort(of) for state in (found, expected))
        sums = other.select(pl.col(pl.Float64)).columns
        assert one.drop(sums).equals(other.drop(sums)), name
        np.testing.assert_allclose(
            one.select(sums).to_numpy(), other.select(sums).to_numpy(), rtol=1e-9, atol=1e-12, err_msg=name
        )


def known_at_most(events: SliceEvents, instant: datetime) -> SliceEvents:
    """What an impression shown at `instant` may know, and the impressions shown until then."""
    return SliceEvents(
        events.items.filter(pl.col("known_at") < instant),
        events.impressions.filter(pl.col("shown_at") <= instant),
        events.interactions.filter(pl.col("known_at") < instant),
    )


def visible(given: InterestInput) -> dict[str, Any]:
    """What the interest model may read of each impression: tokens (item, action, instant) and candidates."""
    m, items = given.moments, given.items
    bags = np.split(items.attribute, items.attribute_start[1:-1])
    read = [
        (items.texts[text], tuple(bag), str(number), code)
        for text, bag, number, code in zip(items.text, bags, items.number, items.id, strict=False)
    ]
    ids = given.keys["impression_id"].unique(maintain_order=True)
    seen = {}
    for n, name in enumerate(ids):
        first = m.user_start[m.impression_user[n]]
        span = slice(first, first + m.impression_prefix[n])
        shown = slice(m.impression_start[n], m.impression_start[n + 1])
        seen[name] = (
            [
                (read[i], a, t)
                for i, a, t in zip(
                    m.history_item[span], m.history_action[span], m.history_at[span], strict=True
                )
            ],
            [read[i] for i in m.candidate_item[shown]],
        )
    return seen


@quick
@given(data=st.data())
def test_the_future_never_changes_the_past(toy: SimpleNamespace, data: st.DataObject) -> None:
    world: SliceEvents = data.draw(toy.worlds())
    project: Project = data.draw(toy.projects())
    instant: datetime = data.draw(st.sampled_from(sorted(world.impressions["shown_at"])))
    cut = data.draw(st.sampled_from([toy.START, toy.START + 5 * toy.STEP]).filter(lambda c: c <= instant))
    state = advance(start(project), toy.between(world, toy.START, cut), cut, project)
    everything = toy.between(world, cut, toy.END)
    past = known_at_most(everything, instant)
    told = [past, everything]

    features = [read_features(state, events, project, toy.vectors(world.items)) for events in told]
    moments = [moments_of(state, events, project) for events in told]
    inputs = [visible(interest_input(state, events, project)) for events in told]

    names = past.impressions["impression_id"].to_list()
    assert_same_features(features[1].filter(pl.col("impression_id").is_in(names)), features[0])
    before = [m.filter(pl.col("known_at") < instant) for m in moments]
    assert before[1].equals(before[0])
    assert {name: inputs[1][name] for name in names} == inputs[0]


@quick
@given(data=st.data())
def test_however_time_is_cut_features_and_state_are_the_same(
    toy: SimpleNamespace, data: st.DataObject
) -> None:
    world: SliceEvents = data.draw(toy.worlds())
    known = world.impressions["shown_at"].to_list() + world.interactions["known_at"].to_list()
    cuts = data.draw(
        st.sets(
            st.sampled_from([*known, *(toy.START + n * toy.STEP for n in range(1, 31))]),
            min_size=1,
            max_size=4,
        )
    )

    project: Project = data.draw(toy.projects())

    features, state = toy.walk(world, project)
    cut_features, cut_state = toy.walk(world, project, cuts)

    assert_same_features(cut_features, features)
    assert_same_state(cut_state, state, project)


@quick
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
def test_what_becomes_known_at_the_very_instant_is_not_seen(toy: SimpleNamespace, kind: str) -> None:
    project, shown = toy.project(), toy.at(60)

    def seen(known_at: datetime) -> pl.DataFrame:
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

    never, at_once, just_before = seen(toy.at(90)), seen(shown), seen(shown - toy.MICROSECOND)

    assert at_once.equals(never)
    assert not just_before.equals(never)


@quick
@given(data=st.data())
def test_an_impression_sees_the_moments_known_before_it_and_no_other(
    toy: SimpleNamespace, data: st.DataObject
) -> None:
    world: SliceEvents = data.draw(toy.worlds())
    project: Project = toy.project()
    state = start(project)
    moments = moments_of(state, world, project)

    found = visible(interest_input(state, world, project))

    for name, user, shown_at in world.impressions.select("impression_id", "user_id", "shown_at").iter_rows():
        known = moments.filter((pl.col("user_id") == user) & (pl.col("known_at") < shown_at))
        codes = [["click", "comment", "passed"].index(action) for action in known["action"]]
        assert [token[1] for token in found[name][0]] == codes
        assert [token[2] for token in found[name][0]] == [t.timestamp() for t in known["known_at"]]
