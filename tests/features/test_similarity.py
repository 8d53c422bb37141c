"""What the text columns mean, by hand; `test_behaviour.py` holds them against plain Python in drawn worlds."""

import math
from types import SimpleNamespace

import polars as pl
import pytest

from features.similarity import COLUMNS
from features.state import SliceEvents

EAST, NORTH, BETWEEN, WEST, MUTE = "0", "1", "2", "4", "5"
"""Texts, by the direction of their vector."""


def texts(
    toy: SimpleNamespace,
    *clicks: tuple[str, float],
    shown: tuple[str, ...] = ("east",),
    earlier: tuple[str, ...] = (),
    items: pl.DataFrame | None = None,
    **features: object,
) -> list[dict[str, float | None]]:
    """Of each item shown to `u` at minute 60, who clicked (item, minute); another user was shown `earlier` ones."""
    known = {"east": EAST, "west": WEST}
    items = toy.items(*(toy.item(n, toy.START, t) for n, t in known.items())) if items is None else items
    lists = [("r", "u", toy.at(60), list(shown))] + [("q", "v", toy.at(50), list(earlier))] * bool(earlier)
    done = toy.interactions(*(("u", item, "click", toy.at(minute)) for item, minute in clicks))
    found, _ = toy.walk(SliceEvents(items, toy.impressions(*lists), done), toy.project(features=features))
    rows = {row["item_id"]: row for row in found.filter(impression_id="r").to_dicts()}
    return [{name: rows[item][name] for name in COLUMNS} for item in shown]


def test_mean_greatest_and_soft_greatest_similarity_to_what_was_clicked(toy: SimpleNamespace) -> None:
    (found,) = texts(toy, ("east", 1), ("west", 2))

    assert found["text_clicked_mean"] == pytest.approx(0.0)
    assert found["text_clicked_max"] == pytest.approx(1.0)
    assert found["text_clicked_lse"] == pytest.approx(math.log(1 + math.exp(5) + math.exp(-5)))
    assert found["text_skipped_mean"] is None


def test_texts_are_compared_around_the_mean_of_what_was_shown(toy: SimpleNamespace) -> None:
    items = toy.items(
        *(toy.item(n, toy.START, t) for n, t in (("east", EAST), ("north", NORTH), ("far", WEST)))
    )

    (found,) = texts(toy, ("north", 1), earlier=("east", "north"), items=items)

    assert found["text_clicked_mean"] == pytest.approx(
        -1.0
    )  # at right angles, and on two sides of their mean


def test_only_the_newest_are_read(toy: SimpleNamespace) -> None:
    (found,) = texts(toy, ("east", 1), ("west", 2), ("west", 3), text_history=2)

    assert found["text_clicked_max"] == pytest.approx(-1.0)


def test_what_is_long_ago_or_not_yet_known_is_not_read(toy: SimpleNamespace) -> None:
    (found,) = texts(toy, ("east", 29), ("west", 30), ("east", 60), ("east", 61), ttl="30m")

    assert found["text_clicked_max"] == pytest.approx(-1.0)


def test_no_past_no_text_or_an_unknown_item_is_missing(toy: SimpleNamespace) -> None:
    items = toy.items(
        *(toy.item(n, toy.START, t) for n, t in (("east", EAST), ("west", WEST), ("mute", MUTE)))
    )

    assert set(texts(toy)[0].values()) == {None}
    found = texts(toy, ("east", 1), ("mute", 2), shown=("mute", "unknown", "east"), items=items)
    assert [row["text_clicked_mean"] for row in found] == [None, None, pytest.approx(1.0)]


def test_a_past_item_is_read_as_it_reads_at_the_moment(toy: SimpleNamespace) -> None:
    known = [("a", 0, EAST), ("a", 30, WEST), ("b", 0, EAST)]
    items = toy.items(*(toy.item(name, toy.at(minute), text) for name, minute, text in known))

    (found,) = texts(toy, ("a", 10), shown=("b",), items=items)

    assert found["text_clicked_mean"] == pytest.approx(-1.0)
