"""Segments of scored impressions: their names and rows."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from features.config.sections import Evaluation
from features.errors import TableError
from models.evaluation.segments import attribute_values, segments

_ATTRIBUTES = pl.List(pl.Struct({"name": pl.String, "value": pl.String}))


def _scored(sizes: list[int], hours: list[int], values: list[list[tuple[str, str]] | None]) -> pl.DataFrame:
    """Impressions of the given sizes and hours; the attributes of rows cycle through `values`."""
    rows = [
        (f"i{n}", datetime(2026, 1, 5, tzinfo=UTC) + timedelta(hours=hour), position == 0, n == 0)
        for n, (size, hour) in enumerate(zip(sizes, hours, strict=True))
        for position in range(size)
    ]
    frame = pl.DataFrame(rows, schema=["impression_id", "as_of", "new_item", "new_user"], orient="row")
    attributes = [
        None if pairs is None else [{"name": name, "value": value} for name, value in pairs]
        for pairs in (values[n % len(values)] for n in range(frame.height))
    ]
    return frame.with_columns(
        attributes=pl.Series(attributes, dtype=_ATTRIBUTES), item_hours=5.0, history_clicks=3
    )


def _segments(scored: pl.DataFrame, guard: tuple[str, ...] = (), **evaluation: int) -> dict[str, pl.Expr]:
    return segments(scored, ("category", "tags"), Evaluation(**{"top_values": 1} | evaluation), guard)


def test_the_largest_values_of_each_attribute_are_segments_of_their_items() -> None:
    a, b, tag = ("category", "a"), ("category", "b"), ("tags", "x")
    scored = _scored([5], [3], [[a, tag], [a], [b], None, []])
    found = _segments(scored)
    assert list(found) == ["new_users", "new_items", "category: a", "tags: x"]
    assert scored.select(found["category: a"].fill_null(False)).to_series().to_list() == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert scored.filter(found["tags: x"]).height == 1
    assert [*_segments(scored, top_values=0)] == ["new_users", "new_items"]


def test_equal_values_of_two_attributes_are_two_segments() -> None:
    scored = _scored([4], [3], [[("category", "x")], [("tags", "x")], [("tags", "x"), ("category", "y")], []])
    found = _segments(scored, top_values=2)
    assert {name: scored.filter(found[name]).height for name in found if ":" in name} == {
        "category: x": 1,
        "category: y": 1,
        "tags: x": 2,
    }


def test_a_guarded_value_is_always_a_segment() -> None:
    scored = _scored([3], [3], [[("category", "a")], [("category", "a")], [("category", "rare")]])
    guard = ("category: rare", "category: absent")
    assert "category: rare" in _segments(scored, guard)
    assert "category: absent" not in _segments(scored, guard)
    assert "category: rare" not in _segments(scored)


def test_bands_of_length_and_hour_partition_impressions() -> None:
    scored = _scored([5, 6, 20, 60], [0, 5, 6, 23], [None])
    found = _segments(scored)
    lengths = {
        name: scored.filter(found[name])["impression_id"].unique().sort().to_list()
        for name in found
        if name.startswith("list")
    }
    hours = {
        name: scored.filter(found[name])["impression_id"].unique().sort().to_list()
        for name in found
        if name.endswith("h")
    }
    assert lengths == {
        "list of 1–5": ["i0"],
        "list of 6–10": ["i1"],
        "list of 11–20": ["i2"],
        "list of 51 or more": ["i3"],
    }
    assert hours == {"00–06 h": ["i0", "i1"], "06–12 h": ["i2"], "18–24 h": ["i3"]}
    uneven = _segments(scored, hours=9)
    assert {"00–09 h", "18–24 h"} <= set(uneven)


def test_bands_of_age_and_history_partition_candidates() -> None:
    scored = _scored([5], [0], [None]).with_columns(
        item_hours=pl.Series([0.0, 6.0, 167.9, 168.0, None]), history_clicks=pl.Series([0, 1, 5, 100, 101])
    )
    found = {
        name: scored.with_row_index().filter(of)["index"].to_list() for name, of in _segments(scored).items()
    }
    assert {name: rows for name, rows in found.items() if name.endswith("old")} == {
        "item under 6 hours old": [0],
        "item 6–24 hours old": [1],
        "item 1–7 days old": [2],
        "item over 7 days old": [3],
    }
    assert {name: rows for name, rows in found.items() if name.startswith("history")} == {
        "history of 0 clicks": [0],
        "history of 1–5 clicks": [1, 2],
        "history of 21–100 clicks": [3],
        "history of 101 or more clicks": [4],
    }


def test_a_band_with_every_impression_is_not_a_segment() -> None:
    found = _segments(_scored([7, 8], [1, 2], [None]))
    assert list(found) == ["new_users", "new_items"]


def test_an_empty_frame_has_only_the_segments_of_new_users_and_items() -> None:
    empty = _scored([1], [1], [None]).clear()
    assert list(_segments(empty)) == ["new_users", "new_items"]
    assert attribute_values(empty).columns == ["row", "name", "value"]


def test_a_missing_column_is_named() -> None:
    with pytest.raises(TableError, match="segments needs the columns attributes"):
        _segments(_scored([1], [1], [None]).drop("attributes"))
