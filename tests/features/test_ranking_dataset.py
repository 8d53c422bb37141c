from datetime import UTC, datetime

import polars as pl
import pytest

from features.catalogue import FORMS
from features.errors import TableError
from features.ranking_dataset import assemble, feature_columns, relative, text_columns

AT = datetime(2026, 1, 5, 12, tzinfo=UTC)
KEYS = {"impression_id": ["r", "r", "q"], "item_id": ["a", "b", "a"]}


@pytest.fixture
def candidates() -> pl.DataFrame:
    return pl.DataFrame(
        {
            **KEYS,
            "user_id": ["u", "u", "v"],
            "position": [1, 2, 1],
            "as_of": [AT] * 3,
            "label": [0.0, 1.0, 0.0],
        }
    ).with_columns(clicked=pl.col("label") > 0)


@pytest.fixture
def features() -> pl.DataFrame:
    return pl.DataFrame({**KEYS, "item_ctr_1d": [0.1, 0.2, 0.3], "text_taste": [0.5, None, 0.7]})


@pytest.fixture
def scores() -> pl.DataFrame:
    return pl.DataFrame({**KEYS, "interest_score": [0.25, 0.75, None], "interest_slice": ["s", "s", None]})


def test_candidates_are_joined_row_for_row_in_any_order(
    candidates: pl.DataFrame, features: pl.DataFrame, scores: pl.DataFrame
) -> None:
    dataset = assemble(candidates, features.reverse(), scores.sample(fraction=1.0, shuffle=True, seed=1))

    assert dataset.select("impression_id", "item_id", "label", "item_ctr_1d", "interest_score").rows() == [
        ("q", "a", 0.0, 0.3, None),
        ("r", "a", 0.0, 0.1, 0.25),
        ("r", "b", 1.0, 0.2, 0.75),
    ]
    assert dataset.equals(assemble(candidates.reverse(), features, scores))


def test_the_interest_score_has_list_relative_forms(
    candidates: pl.DataFrame, features: pl.DataFrame, scores: pl.DataFrame
) -> None:
    assert assemble(candidates, features, scores)["interest_score_z"].to_list() == [None, -1.0, 1.0]


@pytest.mark.parametrize("incomplete", ["features", "interest_scores"])
def test_a_candidate_without_a_row_is_an_error(
    candidates: pl.DataFrame, features: pl.DataFrame, scores: pl.DataFrame, incomplete: str
) -> None:
    tables = {"features": features, "interest_scores": scores}
    tables[incomplete] = tables[incomplete].head(2)

    with pytest.raises(
        TableError, match=f"1 of 3 candidates have no row in {incomplete}, the first of impression 'q'"
    ):
        assemble(candidates, tables["features"], tables["interest_scores"])


def test_a_ranker_reads_neither_keys_nor_label_nor_position(
    candidates: pl.DataFrame, features: pl.DataFrame, scores: pl.DataFrame
) -> None:
    dataset = assemble(candidates, features, scores).with_columns(slice=pl.lit("2026-01-05"))

    assert feature_columns(dataset) == ["item_ctr_1d", "text_taste", "interest_score", "interest_score_z"]


def test_text_columns_of_the_ablation() -> None:
    columns = ["item_ctr_1d", "text_taste", "text_taste_z", "interest_score", "interest_score_z", "item_text"]

    assert text_columns(columns) == ["text_taste", "text_taste_z", "interest_score", "interest_score_z"]


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
