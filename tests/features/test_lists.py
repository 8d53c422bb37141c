import polars as pl
import pytest

from features.lists import FORMS, relative


def z(
    values: list[float | None], lists: list[str] | None = None, dtype: type[pl.DataType] = pl.Float32
) -> list[float]:
    frame = pl.DataFrame({"impression_id": lists or ["r"] * len(values), "x": pl.Series(values, dtype=dtype)})
    return relative(frame, ["x"])["x_z"].to_list()


def test_z_counts_standard_deviations_above_the_mean_of_the_list() -> None:
    assert z([1.0, 2.0, 3.0]) == pytest.approx([-(1.5**0.5), 0.0, 1.5**0.5])


def test_each_list_has_its_own_mean_wherever_its_rows_stand() -> None:
    assert z([0.0, 100.0, 2.0, 300.0], ["r", "q", "r", "q"]) == pytest.approx([-1.0, -1.0, 1.0, 1.0])


@pytest.mark.parametrize("values", [[7.0], [2e8] * 3, [0.0, 0.0], [0.1] * 7])
def test_a_list_of_one_or_of_equal_values_has_zeros(values: list[float | None]) -> None:
    assert z(values) == [0.0] * len(values)


def test_rounding_is_not_a_difference() -> None:
    assert z([1.0, 1.0 + 1e-7, 1.0 - 1e-7], dtype=pl.Float64) == [0.0, 0.0, 0.0]
    assert z([1e-9, 3e-9]) == pytest.approx([-1.0, 1.0])


def test_a_missing_value_stays_missing_and_is_no_part_of_the_mean() -> None:
    assert z([1.0, None, 3.0]) == [-1.0, None, 1.0]
    assert z([None, None]) == [None, None]


def test_the_forms_are_float32_columns_beside_the_old_ones() -> None:
    frame = relative(pl.DataFrame({"impression_id": ["r"], "x": [1.0], "y": [2.0]}), ["x", "y"])

    assert frame.columns == ["impression_id", "x", "y", "x_z", "y_z"]
    assert frame["x_z"].dtype == pl.Float32
    assert list(FORMS) == ["z"]
