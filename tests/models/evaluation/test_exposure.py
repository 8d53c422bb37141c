"""Exposure figures on impressions small enough to compute by hand."""

import numpy as np
import polars as pl
import pytest

from features.errors import TableError
from models.evaluation.exposure import beyond_accuracy, exposure

_ATTRIBUTES = pl.List(pl.Struct({"name": pl.String, "value": pl.String}))


def _frame(lists: int = 100) -> pl.DataFrame:
    """Ten items per impression; `narrow` always prefers the same item, `wide` each in turn."""
    count = lists * 10
    return pl.DataFrame(
        {
            "impression_id": [f"i{n // 10:04}" for n in range(count)],
            "item_id": [f"item{n % 10}" for n in range(count)],
            "clicked": [n % 10 == 9 for n in range(count)],
            "popularity": [float(n % 10) for n in range(count)],
            "narrow": [float(n % 10) for n in range(count)],
            "wide": [float((n + n // 10) % 10) for n in range(count)],
        }
    )


def _with_attributes(frame: pl.DataFrame, values: dict[str, list[tuple[str, str]] | None]) -> pl.DataFrame:
    attributes = [
        None
        if values.get(item) is None
        else [{"name": name, "value": value} for name, value in values[item] or ()]
        for item in frame["item_id"]
    ]
    return frame.with_columns(attributes=pl.Series(attributes, dtype=_ATTRIBUTES))


def _vectors(frame: pl.DataFrame, width: int = 6) -> pl.DataFrame:
    ids = frame["item_id"].unique().sort()
    drawn = np.random.default_rng(4).normal(size=(ids.len(), width))
    unit = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return pl.DataFrame(
        {"item_id": ids, "vector": unit.tolist()}, schema_overrides={"vector": pl.List(pl.Float32)}
    )


def test_coverage_gini_and_popularity_distinguish_narrow_from_wide() -> None:
    narrow, wide = beyond_accuracy(_frame(), ["narrow", "wide"], k=1).iter_rows(named=True)
    assert narrow["coverage"] == pytest.approx(0.1)
    assert narrow["gini"] == pytest.approx(0.9)
    assert (narrow["popularity"], narrow["popularity_lift"]) == (9.0, 2.0)
    assert (wide["coverage"], wide["popularity_lift"]) == (1.0, 1.0)
    assert wide["gini"] == pytest.approx(0.0)
    assert wide["popularity"] == pytest.approx(4.5)


def test_novelty_is_the_information_of_the_shown_items() -> None:
    narrow, wide = beyond_accuracy(_frame(), ["narrow", "wide"], k=1).iter_rows(named=True)
    share = np.arange(1, 11) / 55
    assert narrow["novelty"] == pytest.approx(-np.log2(share[9]))
    assert wide["novelty"] == pytest.approx(-np.log2(share).mean())


def test_popularity_gained_during_the_evaluated_slice_does_not_count() -> None:
    frame = _frame()
    rising = frame.with_columns(popularity=pl.col("popularity") + pl.int_range(pl.len()).over("item_id"))
    once, later = (beyond_accuracy(one, ["narrow"], k=1)["novelty"].item() for one in (frame, rising))
    assert once == later


def test_diversity_agrees_with_a_loop_over_pairs() -> None:
    frame, vectors = _frame(7), _vectors(_frame(1)).filter(pl.col("item_id") != "item9")
    vector_of = {item: np.array(vector) for item, vector in vectors.iter_rows()}
    expected = []
    for _, rows in frame.group_by("impression_id"):
        items = [item for item in rows.sort("wide", descending=True)["item_id"].head(4) if item in vector_of]
        pairs = [1 - vector_of[a] @ vector_of[b] for n, a in enumerate(items) for b in items[:n]]
        expected.append(np.mean(pairs))
    found = beyond_accuracy(frame, ["wide"], vectors, k=4)["diversity"].item()
    assert found == pytest.approx(np.mean(expected), abs=1e-6)


def test_the_latest_vector_of_an_item_counts() -> None:
    vectors = _vectors(_frame(1))
    stale = vectors.with_columns(vector=vectors["vector"].reverse())
    found = [
        beyond_accuracy(_frame(3), ["wide"], each)["diversity"].item()
        for each in (vectors, pl.concat([stale, vectors]))
    ]
    assert found[0] == found[1]


def test_undefined_figures_are_null() -> None:
    alone = beyond_accuracy(_frame(2), ["wide"], _vectors(_frame(1)), k=1)
    assert alone["diversity"].item() is None
    nothing = beyond_accuracy(_frame(1).clear(), ["wide"], _vectors(_frame(1)))
    assert nothing.row(0) == ("wide", None, None, None, None, None, None)
    unknown = beyond_accuracy(_frame(1).with_columns(popularity=pl.lit(0.0)), ["wide"])
    assert unknown["popularity_lift"].item() is None
    with pytest.raises(TableError, match="exposure needs the columns absent"):
        beyond_accuracy(_frame(1), ["absent"])


def test_a_value_gets_the_positions_of_its_items() -> None:
    values = {"item9": [("category", "a")], "item8": [("category", "a")], "item7": [("category", "b")]}
    found = exposure(_with_attributes(_frame(), values), ["narrow", "wide"], ["category"], k=2)
    narrow = {row["value"]: row for row in found.filter(scorer="narrow").iter_rows(named=True)}
    assert (narrow["a"]["places"], narrow["b"]["places"], narrow[None]["places"]) == (200, 0, 0)
    assert (
        narrow["a"]["share_of_positions"],
        narrow["a"]["share_of_candidates"],
        narrow["a"]["share_of_clicks"],
    ) == (
        1.0,
        0.2,
        1.0,
    )
    wide = {
        row["value"]: row["share_of_positions"] for row in found.filter(scorer="wide").iter_rows(named=True)
    }
    assert wide == pytest.approx({None: 0.7, "a": 0.2, "b": 0.1})


def test_an_item_counts_for_its_values_in_equal_parts_and_shares_sum_to_one() -> None:
    values = {f"item{n}": [("tags", f"t{n % 3}"), ("tags", f"t{n % 4}")] for n in range(8)}
    found = exposure(
        _with_attributes(_frame(20), values | {"item9": []}), ["wide", "narrow"], ["tags", "absent"], k=3
    )
    sums = found.group_by("scorer", "attribute").agg(
        pl.col("share_of_positions", "share_of_candidates", "share_of_clicks", "places").sum()
    )
    assert sums.height == 4
    for share in ("share_of_positions", "share_of_candidates", "share_of_clicks"):
        assert sums[share].to_list() == pytest.approx([1.0] * 4)
    assert sums["places"].to_list() == pytest.approx([60.0] * 4)
    # item0 has the value t0 twice: it counts in full.
    only = found.filter(scorer="wide", attribute="tags", value="t0")["candidates"].item()
    assert only == pytest.approx(20 * (1 + 0.5 + 0.5 + 0.5))
    assert found.filter(attribute="absent")["value"].to_list() == [None, None]


def test_shares_of_nothing_are_null_and_no_attributes_give_no_rows() -> None:
    frame = _with_attributes(_frame(2), {"item1": [("category", "a")]})
    found = exposure(frame.with_columns(clicked=pl.lit(False)), ["wide"], ["category"])
    assert found["share_of_clicks"].null_count() == found.height == 2
    assert exposure(frame, ["wide"], []).is_empty()
    assert exposure(frame.clear(), ["wide"], ["category"]).is_empty()
