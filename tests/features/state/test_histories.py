from datetime import datetime
from types import SimpleNamespace

import pytest

from features.behaviour import advance
from features.config.project import Project
from features.schemas import Moments
from features.state import MomentState, SliceEvents, start
from features.state.histories import SKIPPED, exposed, moments


@pytest.fixture(scope="module")
def project(toy: SimpleNamespace) -> Project:
    return toy.project()


@pytest.fixture
def events(toy: SimpleNamespace) -> SliceEvents:
    """One impression of three items: `b` is clicked, `c` is too deep to count as skipped."""
    return SliceEvents(
        toy.items(toy.item("a", toy.START, tags=["x", "y"]), toy.item("b", toy.at(30), category="k")),
        toy.impressions(("r", "u", toy.at(60), ["a", "b", "c"])),
        toy.interactions(("u", "b", "click", toy.at(65))),
    )


def all_moments(state: MomentState, events: SliceEvents) -> list[tuple[str, str, datetime]]:
    return moments(state, events).select("item_id", "action", "known_at").rows()


def test_candidates_are_rows_in_the_order_shown(events: SliceEvents) -> None:
    assert exposed(events.impressions).select("item_id", "position").rows() == [("a", 1), ("b", 2), ("c", 3)]


def test_kinds_without_a_gain_are_no_moments_but_prevent_skips(
    toy: SimpleNamespace, project: Project, events: SliceEvents
) -> None:
    viewed = SliceEvents(
        events.items,
        events.impressions,
        toy.interactions(("u", "a", "view", toy.at(61)), ("u", "b", "view", toy.at(62))),
    )

    assert all_moments(start(project.slices.start, project.behaviour), viewed) == []


def test_an_impression_closes_when_its_window_ends(
    toy: SimpleNamespace, project: Project, events: SliceEvents
) -> None:
    assert all_moments(start(project.slices.start, project.behaviour), events) == [
        ("b", "click", toy.at(65)),
        ("a", SKIPPED, toy.at(80)),
    ]


def test_an_impression_closes_just_before_the_users_next_one(
    toy: SimpleNamespace, project: Project, events: SliceEvents
) -> None:
    shown = toy.impressions(
        ("r", "u", toy.at(60), ["a", "b", "c"]), ("s", "u", toy.at(63), ["d"]), ("t", "v", toy.at(61), ["e"])
    )
    followed = SliceEvents(events.items, shown, events.interactions)

    assert all_moments(start(project.slices.start, project.behaviour), followed)[:4] == [
        ("a", SKIPPED, toy.at(63, -1)),
        ("b", SKIPPED, toy.at(63, -1)),
        ("b", "click", toy.at(65)),
        ("d", SKIPPED, toy.at(83)),
    ]


def test_two_impressions_at_one_instant_do_not_close_each_other(
    toy: SimpleNamespace, project: Project
) -> None:
    shown = toy.impressions(("r", "u", toy.at(60), ["a"]), ("s", "u", toy.at(60), ["b"]))
    both = SliceEvents(toy.items(), shown, toy.interactions(("u", "a", "click", toy.at(80))))

    assert all_moments(start(project.slices.start, project.behaviour), both) == [
        ("a", "click", toy.at(80)),
        ("b", SKIPPED, toy.at(80)),
    ]


def test_an_interaction_before_the_impression_does_not_prevent_its_skip(
    toy: SimpleNamespace, project: Project
) -> None:
    shown = toy.impressions(("r", "u", toy.at(60), ["a"]))
    early = SliceEvents(toy.items(), shown, toy.interactions(("u", "a", "click", toy.at(59))))

    assert all_moments(start(project.slices.start, project.behaviour), early) == [
        ("a", "click", toy.at(59)),
        ("a", SKIPPED, toy.at(80)),
    ]


@pytest.mark.parametrize("cut", [61, 65, 66, 79, 80, 81])
def test_an_open_impression_continues_in_the_next_slice(
    toy: SimpleNamespace, project: Project, events: SliceEvents, cut: int
) -> None:
    _, undivided = toy.walk(events, project)

    _, divided = toy.walk(events, project, [toy.at(cut)])

    assert divided.moments.rows() == undivided.moments.rows()
    assert undivided.open.is_empty()


def test_open_candidates_exclude_the_clicked_ones(
    toy: SimpleNamespace, project: Project, events: SliceEvents
) -> None:
    state = advance(start(project.slices.start, project.behaviour), events, toy.at(66))

    assert state.open["item_id"].to_list() == ["a"]
    assert state.moments["action"].to_list() == ["click"]


def test_a_skip_known_just_before_the_cut_is_ordered_as_without_the_cut(
    toy: SimpleNamespace, project: Project
) -> None:
    # The impression of minute 70 closes that of minute 60 one microsecond earlier, when another item is clicked.
    events = SliceEvents(
        toy.items(),
        toy.impressions(("r", "u", toy.at(60), ["a"]), ("s", "u", toy.at(70), ["z"])),
        toy.interactions(("u", "b", "click", toy.at(70, -1))),
    )

    _, undivided = toy.walk(events, project)
    _, divided = toy.walk(events, project, [toy.at(70)])

    assert divided.moments.rows() == undivided.moments.rows()
    assert undivided.moments["item_id"].to_list()[:2] == ["a", "b"]


def test_skips_do_not_displace_clicks(toy: SimpleNamespace, project: Project) -> None:
    shown = [(f"r{n}", "u", toy.at(60 + n), [f"i{n}", f"j{n}"]) for n in range(4)]
    clicks = [("u", f"k{n}", "click", toy.at(50 + n)) for n in range(3)]
    busy = SliceEvents(toy.items(), toy.impressions(*shown), toy.interactions(*clicks))

    _, state = toy.walk(busy, project)

    Moments.validate(state.moments)
    assert state.moments["item_id"].to_list() == ["k1", "k2", "j2", "i3", "j3"]


def test_old_moments_expire_wherever_time_is_cut(toy: SimpleNamespace) -> None:
    project = toy.project(features={"ttl": "2h"})
    clicks = [("u", f"i{n}", "click", toy.at(40 * n)) for n in range(16)]
    old = SliceEvents(toy.items(), toy.impressions(), toy.interactions(*clicks))

    _, undivided = toy.walk(old, project)
    _, divided = toy.walk(old, project, [toy.at(150), toy.at(620)])
    state = advance(
        start(project.slices.start, project.behaviour), toy.between(old, toy.START, toy.at(161)), toy.at(161)
    )

    assert state.moments["item_id"].to_list() == ["i2", "i3", "i4"]  # i1 is two hours and a minute old
    assert undivided.moments["item_id"].to_list() == ["i15"]
    assert divided.moments.equals(undivided.moments)
