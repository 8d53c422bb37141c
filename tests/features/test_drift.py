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
def test_equal_tables_in_any_order_have_not_moved(values, bins, random) -> None:
    assert psi(values, random.sample(values, len(values)), bins) == 0.0


@given(COLUMNS, COLUMNS)
def test_it_is_a_finite_number_and_never_below_zero(reference, current) -> None:
    found = psi(reference, current)

    assert found >= 0.0
    assert math.isfinite(found)


@given(st.lists(st.integers(0, 2).map(float), min_size=1), st.lists(st.integers(0, 2).map(float), min_size=1))
def test_two_tables_of_the_same_bins_are_as_far_apart_from_either_side(one, other) -> None:
    # Every value is an end of a bin on both sides, as both hold each at least once in twelve.
    one, other = ([*values, *[0.0, 1.0, 2.0] * (len(values) + 4)] for values in (one, other))

    assert psi(one, other, 12) == pytest.approx(psi(other, one, 12))


@given(st.integers(1, 40), st.integers(1, 40))
def test_it_grows_with_the_shift(shift, more) -> None:
    values = [float(n) for n in range(100)]

    near, far = (psi(values, [value + by for value in values]) for by in (shift, shift + more))

    assert far >= near


def test_the_value_is_that_of_the_formula() -> None:
    found = psi([0.0] * 50 + [1.0] * 50, [0.0] * 80 + [1.0] * 20, bins=2)

    assert found == pytest.approx(0.3 * math.log(0.8 / 0.5) - 0.3 * math.log(0.2 / 0.5))


def test_missing_values_are_a_bin_of_their_own() -> None:
    known = [float(n) for n in range(90)]

    assert psi(known + [None] * 10, known + [float("nan")] * 10) == 0.0
    half = psi([1.0] * 80 + [None] * 20, [1.0] * 50 + [None] * 50)
    assert half == pytest.approx(0.3 * math.log(0.5 / 0.2) - 0.3 * math.log(0.5 / 0.8))
    assert psi([None] * 5, [1.0] * 5) > 1.0
    assert psi([None] * 5, [None] * 3) == 0.0


@pytest.mark.parametrize("moved", [-1.0, 1.0])
def test_a_constant_that_changes_is_seen_in_either_direction(moved) -> None:
    assert psi([0.0] * 20, [moved] * 20) > 1.0


def test_what_falls_below_everything_known_is_seen_where_most_values_are_equal() -> None:
    assert psi([0.0] * 90 + [5.0] * 10, [-1.0] * 90 + [5.0] * 10) > 1.0


def test_columns_stand_in_the_order_given_and_truths_count() -> None:
    before = pl.DataFrame({"a": [1, 2, 3, 4], "b": [True, True, True, False], "text": ["u"] * 4})
    after = before.with_columns(b=pl.lit(False))

    found = drift(before, after, ["b", "a"])

    assert found.schema == {"column": pl.String, "psi": pl.Float64}
    assert found["column"].to_list() == ["b", "a"]
    assert found["psi"][0] > 0.5
    assert found["psi"][1] == 0.0


def test_nothing_is_said_of_tables_without_rows() -> None:
    table = pl.DataFrame({"x": [1.0]})

    assert drift(table, table.clear(), ["x"])["psi"].to_list() == [None]
    assert drift(table.clear(), table, ["x"])["psi"].to_list() == [None]
    assert drift(table, table, []).is_empty()


def test_columns_that_cannot_be_compared_are_named() -> None:
    table = pl.DataFrame({"x": [1.0], "text": ["u"]})

    with pytest.raises(TableError, match="columns y, not in the current table"):
        drift(table.with_columns(y=1), table, ["x", "y"])
    with pytest.raises(TableError, match="not numbers: text"):
        drift(table, table, ["text"])
    with pytest.raises(ValueError, match="at least 2"):
        drift(table, table, ["x"], bins=1)
