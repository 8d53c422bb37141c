"""Held-out items: hidden before the instant, the only candidates after it, drawn by the seed."""

from types import SimpleNamespace

import polars as pl
import pytest

from features.errors import ProjectError
from features.events.validation import Events
from pipelines.held_out_items import held_items, hold_out

NAMES = [f"i{n}" for n in range(20)]
SHARE, SEED = 0.3, 1


def shown(events: Events) -> dict[str, list[str]]:
    """Impression → its items by position."""
    return {
        name: [candidate["item_id"] for candidate in candidates]
        for name, candidates in events.impressions.select("impression_id", "candidates").iter_rows()
    }


@pytest.fixture
def events(toy: SimpleNamespace) -> Events:
    """Two impressions of all items around minute 60, with clicks on every item from both."""
    clicks = [("u", name, "click", toy.at(50), toy.at(70)) for name in NAMES]
    clicks += [("u", name, "click", toy.at(80)) for name in NAMES]
    interactions = toy.interactions(*clicks).with_columns(
        impression_id=pl.Series(["early"] * len(NAMES) + ["late"] * len(NAMES))
    )
    return Events(
        toy.items(*(toy.item(name, toy.START) for name in NAMES)),
        toy.impressions(("early", "u", toy.at(40), NAMES), ("late", "u", toy.at(75), NAMES[::-1])),
        interactions,
        pl.DataFrame(),
    )


def test_held_out_items_are_hidden_before_the_instant_and_the_only_candidates_after(
    toy: SimpleNamespace, events: Events
) -> None:
    held_out = held_items(events, SHARE, SEED).to_list()

    items = shown(hold_out(events, SHARE, toy.at(60), SEED))

    assert len(held_out) == round(SHARE * len(NAMES))
    assert items["early"] == [name for name in NAMES if name not in held_out]
    assert items["late"] == [name for name in NAMES[::-1] if name in held_out]


def test_clicks_from_earlier_impressions_are_removed_for_held_out_items_only(
    toy: SimpleNamespace, events: Events
) -> None:
    held_out = set(held_items(events, SHARE, SEED))

    interactions = hold_out(events, SHARE, toy.at(45), SEED).interactions

    # The early clicks happened after the instant, but their impression no longer has the held-out items.
    assert set(interactions.filter(impression_id="early")["item_id"]) == set(NAMES) - held_out
    assert set(interactions.filter(impression_id="late")["item_id"]) == set(NAMES)


def test_a_click_without_an_impression_counts_by_its_instant(toy: SimpleNamespace, events: Events) -> None:
    held_out = held_items(events, SHARE, SEED)[0]
    strays = toy.interactions(
        ("v", held_out, "click", toy.at(50), toy.at(90)), ("w", held_out, "click", toy.at(61))
    )
    log = Events(events.items, events.impressions, strays, events.rejects)

    assert hold_out(log, SHARE, toy.at(60), SEED).interactions["user_id"].to_list() == ["w"]


def test_positions_stay_and_empty_impressions_are_dropped(toy: SimpleNamespace, events: Events) -> None:
    held_out = held_items(events, SHARE, SEED)[0]
    other = next(name for name in NAMES if name not in set(held_items(events, SHARE, SEED)))
    more = toy.impressions(("gone", "u", toy.at(80), [other]), ("kept", "u", toy.at(80), [other, held_out]))
    log = Events(events.items, pl.concat([events.impressions, more]), events.interactions, events.rejects)

    impressions = hold_out(log, SHARE, toy.at(60), SEED).impressions

    assert impressions["impression_id"].to_list() == ["early", "late", "kept"]
    assert impressions["candidates"][2].to_list() == [
        {"item_id": held_out, "position": 2, "propensity": None}
    ]


def test_held_out_items_depend_on_the_seed_only(events: Events) -> None:
    draws = [held_items(events, SHARE, seed).to_list() for seed in (1, 1, 2)]
    reversed_log = Events(events.items, events.impressions.reverse(), events.interactions, events.rejects)

    assert draws[0] == draws[1] == held_items(reversed_log, SHARE, 1).to_list()
    assert draws[0] != draws[2]
    assert set(draws[0]) < set(held_items(events, 0.6, 1))


@pytest.mark.parametrize("share", [0.0, 1.0, 30.0, -0.1])
def test_a_share_outside_0_to_1_is_an_error(toy: SimpleNamespace, events: Events, share: float) -> None:
    with pytest.raises(ProjectError, match="between 0 and 1"):
        hold_out(events, share, toy.at(60), SEED)
