"""Held-out items: nobody met them before the instant, nothing else is shown after it, and the seed draws them."""

from types import SimpleNamespace

import polars as pl
import pytest

from features.errors import ProjectError
from features.events.validation import Events
from pipelines.holdout import held_items, hold_out

NAMES = [f"i{n}" for n in range(20)]
SHARE, SEED = 0.3, 1


def shown(events: Events) -> dict[str, list[str]]:
    """Impression → its items in the order shown."""
    return {
        name: [candidate["item_id"] for candidate in candidates]
        for name, candidates in events.impressions.select("impression_id", "candidates").iter_rows()
    }


@pytest.fixture
def events(toy: SimpleNamespace) -> Events:
    """Two lists of everything around minute 60, and every item clicked from both, the second click of each late."""
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


def test_held_items_are_in_no_list_before_the_instant_and_alone_in_those_after(
    toy: SimpleNamespace, events: Events
) -> None:
    held = held_items(events, SHARE, SEED).to_list()

    found = shown(hold_out(events, SHARE, toy.at(60), SEED))

    assert len(held) == round(SHARE * len(NAMES))
    assert found["early"] == [name for name in NAMES if name not in held]
    assert found["late"] == [name for name in NAMES[::-1] if name in held]


def test_what_came_of_earlier_lists_is_forgotten_of_held_items_alone(
    toy: SimpleNamespace, events: Events
) -> None:
    held = set(held_items(events, SHARE, SEED))

    left = hold_out(events, SHARE, toy.at(45), SEED).interactions

    # The clicks of the early list happened after the instant, and yet its held items were never in it.
    assert set(left.filter(impression_id="early")["item_id"]) == set(NAMES) - held
    assert set(left.filter(impression_id="late")["item_id"]) == set(NAMES)


def test_a_click_outside_any_list_goes_by_when_it_happened(toy: SimpleNamespace, events: Events) -> None:
    held = held_items(events, SHARE, SEED)[0]
    strays = toy.interactions(("v", held, "click", toy.at(50), toy.at(90)), ("w", held, "click", toy.at(61)))
    told = Events(events.items, events.impressions, strays, events.rejects)

    assert hold_out(told, SHARE, toy.at(60), SEED).interactions["user_id"].to_list() == ["w"]


def test_places_stay_as_shown_and_emptied_lists_are_left_out(toy: SimpleNamespace, events: Events) -> None:
    held = held_items(events, SHARE, SEED)[0]
    other = next(name for name in NAMES if name not in set(held_items(events, SHARE, SEED)))
    more = toy.impressions(("gone", "u", toy.at(80), [other]), ("kept", "u", toy.at(80), [other, held]))
    told = Events(events.items, pl.concat([events.impressions, more]), events.interactions, events.rejects)

    lists = hold_out(told, SHARE, toy.at(60), SEED).impressions

    assert lists["impression_id"].to_list() == ["early", "late", "kept"]
    assert lists["candidates"][2].to_list() == [{"item_id": held, "position": 2}]


def test_the_seed_draws_the_items_and_nothing_else_does(events: Events) -> None:
    draws = [held_items(events, SHARE, seed).to_list() for seed in (1, 1, 2)]
    turned = Events(events.items, events.impressions.reverse(), events.interactions, events.rejects)

    assert draws[0] == draws[1] == held_items(turned, SHARE, 1).to_list()
    assert draws[0] != draws[2]
    assert set(draws[0]) < set(held_items(events, 0.6, 1))


@pytest.mark.parametrize("share", [0.0, 1.0, 30.0, -0.1])
def test_what_is_no_share_is_refused(toy: SimpleNamespace, events: Events, share: float) -> None:
    with pytest.raises(ProjectError, match="between 0 and 1"):
        hold_out(events, share, toy.at(60), SEED)
