"""Rows see the item version known strictly before them, whatever their time column is called."""

from types import SimpleNamespace

import polars as pl
import pytest

from features.events.point_in_time import latest, see, versions


@pytest.mark.parametrize("at", ["known_at", "shown_at"])
@pytest.mark.parametrize("rewritten", [False, True], ids=["one version an item", "several versions"])
def test_rows_see_the_version_before_their_instant(toy: SimpleNamespace, at: str, rewritten: bool) -> None:
    items = toy.items(
        toy.item("a", toy.at(0)),
        toy.item("b", toy.at(10)),
        *([toy.item("b", toy.at(30))] if rewritten else []),
    )
    rows = pl.DataFrame(
        {
            "item_id": ["a", "b", "b", "b", "c"],
            at: [toy.at(1), toy.at(10), toy.at(11), toy.at(31), toy.at(40)],
        }
    ).cast({at: items.schema["known_at"]})

    assert see(rows, items, at)["version"].to_list() == [0, None, 1, 2 if rewritten else 1, None]


def test_see_gives_the_version_known_strictly_before(toy: SimpleNamespace) -> None:
    known = toy.items(toy.item("a", toy.at(10)), toy.item("a", toy.at(20)), toy.item("b", toy.at(5)))
    instants = [toy.at(10), toy.at(10, 1), toy.at(20), toy.at(20, 1)]
    rows = pl.DataFrame({"item_id": ["a", "a", "a", "a"], "at": instants})
    rows = pl.concat([rows, pl.DataFrame({"item_id": ["c"], "at": [toy.at(30)]})])

    found = see(rows.reverse(), known, "at")

    assert found.drop("version").equals(rows.reverse())
    assert found["version"].to_list() == [None, 1, 0, 0, None]


def test_earlier_and_new_versions_are_combined_and_the_latest_kept(toy: SimpleNamespace) -> None:
    known = toy.items(toy.item("b", toy.at(1), "new"), toy.item("a", toy.at(2)))
    fresh = toy.items(toy.item("b", toy.at(20), "newest"), toy.item("b", toy.at(10), "newer"))

    items = versions(known, fresh)

    assert items["title"].to_list() == ["about a", "new", "newer", "newest"]
    assert latest(items).select("item_id", "title").rows() == [("a", "about a"), ("b", "newest")]
