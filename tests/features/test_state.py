from datetime import datetime
from types import SimpleNamespace

import polars as pl
import pytest

from features.project import Project
from features.schemas import Items, Moments
from features.state import (
    GRAINS,
    PASSED,
    MomentState,
    SliceEvents,
    advance,
    attribute_values,
    count,
    counters,
    exposed,
    kinds_counted,
    leave,
    restore,
    see,
    start,
    stream,
    versions,
)


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


def moments_of(state: MomentState, events: SliceEvents, project: Project) -> list[tuple[str, str, datetime]]:
    found = stream(state, leave(state, events, project), events, project)
    return found.select("item_id", "action", "known_at").rows()


def test_the_click_is_the_kind_click_or_else_the_first_declared(toy: SimpleNamespace) -> None:
    def kinds(**gains: float) -> dict[str, str]:
        return kinds_counted(toy.project(labels={"gains": gains}))

    assert kinds(click=1, share=2) == {"click": "clicks", "share": "shares"}
    assert kinds(purchase=3, click=1) == {"click": "clicks", "purchase": "purchases"}
    assert kinds(like=1, share=2) == {"like": "clicks", "share": "shares"}


def test_every_grain_is_counted_by_its_keys(project: Project) -> None:
    found = counters(project)

    assert {grain: counter.keys for grain, counter in found.items()} == dict(GRAINS)
    assert found["item"].quantities == ("exposures", "clicks", "comments")
    assert found["user_item"].columns == ["exposures_all", "clicks_all"]


def test_the_first_state_is_empty_and_at_the_first_slice(project: Project) -> None:
    state = start(project)

    assert state.at == project.slices.start
    assert all(table.is_empty() for table in state.tables().values())


def test_see_gives_the_version_known_strictly_before(toy: SimpleNamespace) -> None:
    known = toy.items(toy.item("a", toy.at(10)), toy.item("a", toy.at(20)), toy.item("b", toy.at(5)))
    asked = [toy.at(10), toy.at(10, 1), toy.at(20), toy.at(20, 1)]
    rows = pl.DataFrame({"item_id": ["a", "a", "a", "a"], "at": asked})
    rows = pl.concat([rows, pl.DataFrame({"item_id": ["c"], "at": [toy.at(30)]})])

    found = see(rows.reverse(), known, "at")

    assert found.drop("version").equals(rows.reverse())
    assert found["version"].to_list() == [None, 1, 0, 0, None]


def test_values_of_a_version_are_counted_once(toy: SimpleNamespace) -> None:
    known = toy.items(toy.item("a", toy.START, category="k", tags=["x", "x"]), toy.item("b", toy.START))

    assert attribute_values(known).rows() == [(0, "category", "k"), (0, "tags", "x")]


def test_candidates_are_rows_in_the_order_shown(events: SliceEvents) -> None:
    assert exposed(events.impressions).select("item_id", "position").rows() == [("a", 1), ("b", 2), ("c", 3)]


def test_count_tells_each_grain_what_was_shown_and_done(
    toy: SimpleNamespace, project: Project, events: SliceEvents
) -> None:
    facts = count(start(project), events, project)

    assert facts["item"].rows() == [
        ("a", toy.at(60), 1.0, 0.0, 0.0),
        ("b", toy.at(60), 1.0, 0.0, 0.0),
        ("c", toy.at(60), 1.0, 0.0, 0.0),
        ("b", toy.at(65), 0.0, 1.0, 0.0),
    ]
    shown = facts["attribute"].filter(pl.col("exposures") == 1).select("attribute", "value").rows()
    assert sorted(shown) == [("category", "k"), ("tags", "x"), ("tags", "y")]
    assert {
        grain: facts[grain].height for grain in ("everything", "user", "user_item", "user_attribute")
    } == {
        "everything": 4,
        "user": 4,
        "user_item": 4,
        "user_attribute": 4,
    }


def test_kinds_without_a_gain_are_not_counted_and_make_no_moment_yet_are_no_pass(
    toy: SimpleNamespace, project: Project, events: SliceEvents
) -> None:
    viewed = SliceEvents(
        events.items,
        events.impressions,
        toy.interactions(("u", "a", "view", toy.at(61)), ("u", "b", "view", toy.at(62))),
    )

    assert count(start(project), viewed, project)["user"].height == 3
    assert moments_of(start(project), viewed, project) == []


def test_a_list_is_left_when_the_window_ends(
    toy: SimpleNamespace, project: Project, events: SliceEvents
) -> None:
    assert moments_of(start(project), events, project) == [
        ("b", "click", toy.at(65)),
        ("a", PASSED, toy.at(80)),
    ]


def test_a_list_is_left_just_before_the_users_next_one(
    toy: SimpleNamespace, project: Project, events: SliceEvents
) -> None:
    shown = toy.impressions(
        ("r", "u", toy.at(60), ["a", "b", "c"]), ("s", "u", toy.at(63), ["d"]), ("t", "v", toy.at(61), ["e"])
    )
    followed = SliceEvents(events.items, shown, events.interactions)

    assert moments_of(start(project), followed, project)[:4] == [
        ("a", PASSED, toy.at(63, -1)),
        ("b", PASSED, toy.at(63, -1)),
        ("b", "click", toy.at(65)),
        ("d", PASSED, toy.at(83)),
    ]


def test_two_lists_at_one_instant_do_not_close_each_other(toy: SimpleNamespace, project: Project) -> None:
    shown = toy.impressions(("r", "u", toy.at(60), ["a"]), ("s", "u", toy.at(60), ["b"]))
    both = SliceEvents(toy.items(), shown, toy.interactions(("u", "a", "click", toy.at(80))))

    assert moments_of(start(project), both, project) == [
        ("a", "click", toy.at(80)),
        ("b", PASSED, toy.at(80)),
    ]


def test_what_happened_before_the_list_was_shown_is_not_its_answer(
    toy: SimpleNamespace, project: Project
) -> None:
    shown = toy.impressions(("r", "u", toy.at(60), ["a"]))
    early = SliceEvents(toy.items(), shown, toy.interactions(("u", "a", "click", toy.at(59))))

    assert moments_of(start(project), early, project) == [
        ("a", "click", toy.at(59)),
        ("a", PASSED, toy.at(80)),
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


def test_each_item_is_remembered_in_its_latest_version(toy: SimpleNamespace, project: Project) -> None:
    told = SliceEvents(
        toy.items(toy.item("b", toy.at(1), "new"), toy.item("b", toy.START, "old"), toy.item("a", toy.at(2))),
        toy.impressions(),
        toy.interactions(),
    )

    state = advance(start(project), told, toy.at(10), project)
    later = SliceEvents(toy.items(toy.item("b", toy.at(20), "newest")), toy.impressions(), toy.interactions())

    Items.validate(state.items)
    assert state.items.select("item_id", "title").rows() == [("a", "about a"), ("b", "new")]
    assert versions(state, later)["title"].to_list() == ["about a", "new", "newest"]


def test_a_state_is_its_tables(toy: SimpleNamespace, project: Project, events: SliceEvents) -> None:
    state = advance(start(project), events, toy.at(66), project)

    again = restore(state.at, state.tables())

    assert set(state.tables()) == {*GRAINS, "items", "open", "moments"}
    assert all(again.tables()[name].equals(table) for name, table in state.tables().items())


def test_a_slice_in_which_nothing_happened_only_passes_time(
    toy: SimpleNamespace, project: Project, events: SliceEvents
) -> None:
    state = advance(start(project), events, toy.at(120), project)
    nothing = SliceEvents(toy.items(), toy.impressions(), toy.interactions())

    later = advance(state, nothing, toy.at(180), project)

    assert later.moments.equals(state.moments)
    assert later.items.equals(state.items)
    halved = [value / 2 for value in state.totals["item"]["exposures_1h"]]
    assert later.totals["item"]["exposures_1h"].to_list() == pytest.approx(halved)
