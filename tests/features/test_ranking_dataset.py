from datetime import UTC, datetime

import polars as pl
import pytest

from features.errors import TableError
from features.ranking_dataset import assemble, feature_columns, text_columns

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
