from types import SimpleNamespace

import polars as pl
import pytest

from features.behaviour import advance
from features.config.project import Project
from features.schemas import Items
from features.state import SliceEvents, counters, start


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


def test_the_state_keeps_the_latest_version_of_each_item(toy: SimpleNamespace, project: Project) -> None:
    events = SliceEvents(
        toy.items(toy.item("b", toy.at(1), "new"), toy.item("b", toy.START, "old"), toy.item("a", toy.at(2))),
        toy.impressions(),
        toy.interactions(),
    )

    state = advance(start(project.slices.start, project.behaviour), events, toy.at(10))

    Items.validate(state.items)
    assert state.items.select("item_id", "title").rows() == [("a", "about a"), ("b", "new")]


def test_a_slice_without_events_only_decays_counts(
    toy: SimpleNamespace, project: Project, events: SliceEvents
) -> None:
    state = advance(start(project.slices.start, project.behaviour), events, toy.at(120))
    nothing = SliceEvents(toy.items(), toy.impressions(), toy.interactions())

    later = advance(state, nothing, toy.at(180))

    for name, table in state.tables().items():
        assert later.tables()[name].equals(table), name
    assert later.moments.equals(state.moments)
    assert later.items.equals(state.items)
    halved = {
        item: value / 2 for item, value in state.counts("item").select("item_id", "exposures_1h").iter_rows()
    }
    counts = dict(later.counts("item").select("item_id", "exposures_1h").iter_rows())
    assert counts == pytest.approx(halved)


def test_entries_expire_after_their_ttl_and_the_others_stay(
    toy: SimpleNamespace, events: SliceEvents
) -> None:
    project = toy.project(features={"ttl": "1h"})
    again = SliceEvents(toy.items(), toy.impressions(("s", "v", toy.at(130), ["b"])), toy.interactions())
    state = advance(start(project.slices.start, project.behaviour), events, toy.at(125))

    later = advance(state, again, toy.at(140))

    assert set(state.counts("item")["item_id"]) == {
        "b"
    }  # a and c were shown at minute 60, b was clicked at 65
    assert set(state.counts("user")["user_id"]) == {"u"}
    assert set(later.counts("user")["user_id"]) == {"v"}
    assert later.counts("item").select("item_id", "exposures_all").rows() == [("b", 1.0)]
    assert later.counts("taste").filter(pl.col("clicks_all") > 0).is_empty()
    assert later.counts("everything")["exposures_all"].to_list() == [4.0]
    assert later.moments.is_empty() is False
    assert set(later.items["item_id"]) == {"a", "b"}


def test_a_state_does_not_grow_with_the_length_of_history(toy: SimpleNamespace) -> None:
    project = toy.project(features={"ttl": "2h"})

    def sizes(hours: int) -> dict[str, int]:
        lists = [
            (f"r{n}", f"u{n}", toy.at(10 * n), [f"i{n}", f"i{n + 1}"], {"session": f"s{n}"})
            for n in range(1, 6 * hours)
        ]
        clicks = [(f"u{n}", f"i{n}", "click", toy.at(10 * n + 1)) for n in range(1, 6 * hours)]
        events = SliceEvents(toy.items(), toy.impressions(*lists), toy.interactions(*clicks))
        state = start(project.slices.start, project.behaviour)
        for hour in range(1, hours + 1):
            part = toy.between(events, state.at, toy.at(60 * hour))
            state = advance(state, part, toy.at(60 * hour))
        return {name: table.height for name, table in state.tables().items()}

    assert sizes(10) == sizes(5)
    assert sizes(5)["user"] == 12
    assert set(sizes(5)) > set(counters(project.behaviour))


def test_tastes_last_while_their_user_is_shown_impressions(
    toy: SimpleNamespace,
) -> None:
    # Clicks on one value, then only exposures for longer than the TTL, then one more click.
    project = toy.project(features={"ttl": "1h"})
    lists = [(f"r{n}", "u", toy.at(30 * n), ["a"]) for n in range(1, 8)]
    clicks = [("u", "a", "click", toy.at(minute)) for minute in (31, 32, 33, 200)]
    events = SliceEvents(
        toy.items(toy.item("a", toy.START, category="k")), toy.impressions(*lists), toy.interactions(*clicks)
    )

    features, _ = toy.walk(events, project, [toy.at(130)])

    entropies = features.sort("impression_id")["user_category_entropy"].to_list()
    assert entropies[0] is None
    assert entropies[1:] == pytest.approx([0.0] * 6, abs=1e-6)
