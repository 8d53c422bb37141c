import polars as pl
import pytest

from features.catalogue.relative import FORMS, relative


def z(
    values: list[float | None], lists: list[str] | None = None, dtype: type[pl.DataType] = pl.Float32
) -> list[float]:
    frame = pl.DataFrame({"impression_id": lists or ["r"] * len(values), "x": pl.Series(values, dtype=dtype)})
    return relative(frame, {"z": ["x"]})["x_z"].to_list()


def test_z_counts_standard_deviations_above_the_mean_of_the_list() -> None:
    assert z([1.0, 2.0, 3.0]) == pytest.approx([-(1.5**0.5), 0.0, 1.5**0.5])


def test_each_list_has_its_own_mean_in_any_row_order() -> None:
    assert z([0.0, 100.0, 2.0, 300.0], ["r", "q", "r", "q"]) == pytest.approx([-1.0, -1.0, 1.0, 1.0])


@pytest.mark.parametrize("values", [[7.0], [2e8] * 3, [0.0, 0.0], [0.1] * 7])
def test_a_list_of_one_or_of_equal_values_has_zeros(values: list[float | None]) -> None:
    assert z(values) == [0.0] * len(values)


def test_rounding_is_not_a_difference() -> None:
    assert z([1.0, 1.0 + 1e-7, 1.0 - 1e-7], dtype=pl.Float64) == [0.0, 0.0, 0.0]
    assert z([1e-9, 3e-9]) == pytest.approx([-1.0, 1.0])


def test_a_missing_value_stays_missing_and_is_left_out_of_the_mean() -> None:
    assert z([1.0, None, 3.0]) == [-1.0, None, 1.0]
    assert z([None, None]) == [None, None]


def test_the_forms_are_float32_columns_beside_the_old_ones() -> None:
    frame = pl.DataFrame({"impression_id": ["r"], "x": [1.0], "y": [2.0]})

    wide = relative(frame, {"z": ["x", "y"], "best": ["y"]})

    assert wide.columns == ["impression_id", "x", "y", "x_z", "y_z", "y_best"]
    assert set(wide.dtypes[3:]) == {pl.Float32}
    assert relative(frame, {"z": []}).equals(frame)
    assert set(FORMS) == {"z", "rank", "share", "best"}


@pytest.mark.parametrize(
    ("form", "values", "expected"),
    [
        ("rank", [3.0, 1.0, 3.0, None, 2.0], [1.0, 4.0, 1.0, None, 3.0]),
        ("share", [3.0, 1.0, None], [0.75, 0.25, None]),
        ("share", [0.0, 0.0], [0.0, 0.0]),
        ("share", [-3.0, 1.0], [0.0, 0.0]),
        ("best", [3.0, 1.0, None], [0.0, -2.0, None]),
        ("best", [None], [None]),
        ("rank", [5.0], [1.0]),
    ],
)
def test_rank_share_and_best(form: str, values: list[float | None], expected: list[float | None]) -> None:
    frame = pl.DataFrame({"impression_id": ["r"] * len(values), "x": pl.Series(values, dtype=pl.Float64)})

    assert relative(frame, {form: ["x"]})[f"x_{form}"].to_list() == expected


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_computed_per_list_in_any_row_order(form: str) -> None:
    one, other = [1.0, 2.0, 4.0], [10.0, 30.0, 20.0]
    together = pl.DataFrame(
        {"impression_id": ["r", "q"] * 3, "x": [v for pair in zip(one, other, strict=True) for v in pair]}
    )

    combined = relative(together, {form: ["x"]})[f"x_{form}"].to_list()

    alone = [
        relative(pl.DataFrame({"impression_id": "r", "x": values}), {form: ["x"]}) for values in (one, other)
    ]
    assert combined[::2] == alone[0][f"x_{form}"].to_list()
    assert combined[1::2] == alone[1][f"x_{form}"].to_list()


def test_rounding_does_not_break_ties_in_rank() -> None:
    frame = pl.DataFrame({"impression_id": ["r"] * 3, "x": [0.1 + 0.2, 0.3, 0.4]})

    assert relative(frame, {"rank": ["x"]})["x_rank"].to_list() == [2.0, 2.0, 1.0]
