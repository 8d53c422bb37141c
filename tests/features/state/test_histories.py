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
    """One list of three, from which `b` is taken; `c` is below what is remembered as passed."""
    return SliceEvents(
        toy.items(toy.item("a", toy.START, tags=["x", "y"]), toy.item("b", toy.at(30), category="k")),
        toy.impressions(("r", "u", toy.at(60), ["a", "b", "c"])),
        toy.interactions(("u", "b", "click", toy.at(65))),
    )


def told(state: MomentState, events: SliceEvents, project: Project) -> list[tuple[str, str, datetime]]:
    return moments(state, events, project).select("item_id", "action", "known_at").rows()


def test_candidates_are_rows_in_the_order_shown(events: SliceEvents) -> None:
    assert exposed(events.impressions).select("item_id", "position").rows() == [("a", 1), ("b", 2), ("c", 3)]


def test_kinds_without_a_gain_make_no_moment_yet_are_no_pass(
    toy: SimpleNamespace, project: Project, events: SliceEvents
) -> None:
    viewed = SliceEvents(
        events.items,
        events.impressions,
        toy.interactions(("u", "a", "view", toy.at(61)), ("u", "b", "view", toy.at(62))),
    )

    assert told(start(project), viewed, project) == []


def test_a_list_is_left_when_the_window_ends(
    toy: SimpleNamespace, project: Project, events: SliceEvents
) -> None:
    assert told(start(project), events, project) == [
        ("b", "click", toy.at(65)),
        ("a", SKIPPED, toy.at(80)),
    ]


def test_a_list_is_left_just_before_the_users_next_one(
    toy: SimpleNamespace, project: Project, events: SliceEvents
) -> None:
    shown = toy.impressions(
        ("r", "u", toy.at(60), ["a", "b", "c"]), ("s", "u", toy.at(63), ["d"]), ("t", "v", toy.at(61), ["e"])
    )
    followed = SliceEvents(events.items, shown, events.interactions)

    assert told(start(project), followed, project)[:4] == [
        ("a", SKIPPED, toy.at(63, -1)),
        ("b", SKIPPED, toy.at(63, -1)),
        ("b", "click", toy.at(65)),
        ("d", SKIPPED, toy.at(83)),
    ]


def test_two_lists_at_one_instant_do_not_close_each_other(toy: SimpleNamespace, project: Project) -> None:
    shown = toy.impressions(("r", "u", toy.at(60), ["a"]), ("s", "u", toy.at(60), ["b"]))
    both = SliceEvents(toy.items(), shown, toy.interactions(("u", "a", "click", toy.at(80))))

    assert told(start(project), both, project) == [
        ("a", "click", toy.at(80)),
        ("b", SKIPPED, toy.at(80)),
    ]


def test_what_happened_before_the_list_was_shown_is_not_its_answer(
    toy: SimpleNamespace, project: Project
) -> None:
    shown = toy.impressions(("r", "u", toy.at(60), ["a"]))
    early = SliceEvents(toy.items(), shown, toy.interactions(("u", "a", "click", toy.at(59))))

    assert told(start(project), early, project) == [
        ("a", "click", toy.at(59)),
        ("a", SKIPPED, toy.at(80)),
    ]


@pytest.mark.parametrize("cut", [61, 65, 66, 79, 80, 81])
def test_an_open_list_is_carried_into_the_next_slice(
    toy: SimpleNamespace, project: Project, events: SliceEvents, cut: int
) -> None:
    _, whole = toy.walk(events, project)

    _, divided = toy.walk(events, project, [toy.at(cut)])

    assert divided.moments.rows() == whole.moments.rows()
    assert whole.open.is_empty()


def test_open_candidates_are_those_not_left_nor_taken(
    toy: SimpleNamespace, project: Project, events: SliceEvents
) -> None:
    state = advance(start(project), events, toy.at(66), project)

    assert state.open["item_id"].to_list() == ["a"]
    assert state.moments["action"].to_list() == ["click"]


def test_a_pass_known_just_before_the_cut_stands_where_it_would_without_it(
    toy: SimpleNamespace, project: Project
) -> None:
    # The list of minute 70 closes that of minute 60 one microsecond before: beside a click on another item.
    told = SliceEvents(
        toy.items(),
        toy.impressions(("r", "u", toy.at(60), ["a"]), ("s", "u", toy.at(70), ["z"])),
        toy.interactions(("u", "b", "click", toy.at(70, -1))),
    )

    _, whole = toy.walk(told, project)
    _, divided = toy.walk(told, project, [toy.at(70)])

    assert divided.moments.rows() == whole.moments.rows()
    assert whole.moments["item_id"].to_list()[:2] == ["a", "b"]


def test_passes_do_not_crowd_out_clicks(toy: SimpleNamespace, project: Project) -> None:
    shown = [(f"r{n}", "u", toy.at(60 + n), [f"i{n}", f"j{n}"]) for n in range(4)]
    clicks = [("u", f"k{n}", "click", toy.at(50 + n)) for n in range(3)]
    busy = SliceEvents(toy.items(), toy.impressions(*shown), toy.interactions(*clicks))

    _, state = toy.walk(busy, project)

    Moments.validate(state.moments)
    assert state.moments["item_id"].to_list() == ["k1", "k2", "j2", "i3", "j3"]


def test_what_is_long_ago_is_forgotten_wherever_time_is_cut(toy: SimpleNamespace) -> None:
    project = toy.project(features={"ttl": "2h"})
    clicks = [("u", f"i{n}", "click", toy.at(40 * n)) for n in range(16)]
    old = SliceEvents(toy.items(), toy.impressions(), toy.interactions(*clicks))

    _, whole = toy.walk(old, project)
    _, divided = toy.walk(old, project, [toy.at(150), toy.at(620)])
    state = advance(start(project), toy.between(old, toy.START, toy.at(161)), toy.at(161), project)

    assert state.moments["item_id"].to_list() == ["i2", "i3", "i4"]  # i1 is two hours and a minute old
    assert whole.moments["item_id"].to_list() == ["i15"]
    assert divided.moments.equals(whole.moments)
