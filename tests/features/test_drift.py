import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.drift import drift
from features.errors import TableError

NUMBERS = st.one_of(st.none(), st.just(float("nan")), st.integers(-3, 3).map(float), st.floats(-1e6, 1e6))
COLUMNS = st.lists(NUMBERS, min_size=1, max_size=60)


def psi(reference: list[float | None], current: list[float | None], bins: int = 10) -> float:
    tables = (pl.DataFrame({"x": pl.Series(values, dtype=pl.Float64)}) for values in (reference, current))
    return float(drift(*tables, ["x"], bins)["psi"][0])


@given(COLUMNS, st.integers(2, 12), st.randoms())
def test_equal_tables_in_any_order_have_no_drift(values, bins, random) -> None:
    assert psi(values, random.sample(values, len(values)), bins) == 0.0


@given(COLUMNS, COLUMNS)
def test_the_index_is_finite_and_non_negative(reference, current) -> None:
    index = psi(reference, current)

    assert index >= 0.0
    assert math.isfinite(index)


@given(st.lists(st.integers(0, 2).map(float), min_size=1), st.lists(st.integers(0, 2).map(float), min_size=1))
def test_the_index_is_symmetric_if_the_bins_are_equal(one, other) -> None:
    # Both tables have every value at least once in twelve rows, so each value ends a bin in both.
    one, other = ([*values, *[0.0, 1.0, 2.0] * (len(values) + 4)] for values in (one, other))

    assert psi(one, other, 12) == pytest.approx(psi(other, one, 12))


@given(st.integers(1, 40), st.integers(1, 40))
def test_the_index_grows_with_the_shift(shift, more) -> None:
    values = [float(n) for n in range(100)]

    near, far = (psi(values, [value + by for value in values]) for by in (shift, shift + more))

    assert far >= near


def test_the_index_follows_the_formula() -> None:
    index = psi([0.0] * 50 + [1.0] * 50, [0.0] * 80 + [1.0] * 20, bins=2)

    assert index == pytest.approx(0.3 * math.log(0.8 / 0.5) - 0.3 * math.log(0.2 / 0.5))


def test_missing_values_have_their_own_bin() -> None:
    known = [float(n) for n in range(90)]

    assert psi(known + [None] * 10, known + [float("nan")] * 10) == 0.0
    half = psi([1.0] * 80 + [None] * 20, [1.0] * 50 + [None] * 50)
    assert half == pytest.approx(0.3 * math.log(0.5 / 0.2) - 0.3 * math.log(0.5 / 0.8))
    assert psi([None] * 5, [1.0] * 5) > 1.0
    assert psi([None] * 5, [None] * 3) == 0.0


@pytest.mark.parametrize("moved", [-1.0, 1.0])
def test_a_changed_constant_is_drift_in_either_direction(moved) -> None:
    assert psi([0.0] * 20, [moved] * 20) > 1.0


def test_values_below_the_minimum_are_drift_even_if_most_values_are_equal() -> None:
    assert psi([0.0] * 90 + [5.0] * 10, [-1.0] * 90 + [5.0] * 10) > 1.0


def test_columns_keep_their_order_and_may_be_boolean() -> None:
    before = pl.DataFrame({"a": [1, 2, 3, 4], "b": [True, True, True, False], "text": ["u"] * 4})
    after = before.with_columns(b=pl.lit(False))

    table = drift(before, after, ["b", "a"])

    assert table.schema == {"column": pl.String, "psi": pl.Float64}
    assert table["column"].to_list() == ["b", "a"]
    assert table["psi"][0] > 0.5
    assert table["psi"][1] == 0.0


def test_tables_without_rows_have_no_index() -> None:
    table = pl.DataFrame({"x": [1.0]})

    assert drift(table, table.clear(), ["x"])["psi"].to_list() == [None]
    assert drift(table.clear(), table, ["x"])["psi"].to_list() == [None]
    assert drift(table, table, []).is_empty()


def test_invalid_columns_are_named() -> None:
    table = pl.DataFrame({"x": [1.0], "text": ["u"]})

    with pytest.raises(TableError, match="current table has no columns y"):
        drift(table.with_columns(y=1), table, ["x", "y"])
    with pytest.raises(TableError, match="not numeric: text"):
        drift(table, table, ["text"])
