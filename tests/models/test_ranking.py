import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import ModelError, TableError
from models.ranking import order, stable_hash, top


def _lists(scores: list[float], impressions: int = 2) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "impression_id": [f"i{n % impressions}" for n in range(len(scores))],
            "item_id": [f"item{n}" for n in range(len(scores))],
            "score": scores,
        },
        schema={"impression_id": pl.String, "item_id": pl.String, "score": pl.Float64},
    )


def test_higher_scores_come_first_and_ranks_count_from_one() -> None:
    frame = _lists([0.1, 5.0, 0.3, 4.0, 0.2, 6.0])
    ranked = order(frame)
    assert ranked["item_id"].to_list() == ["item2", "item4", "item0", "item5", "item1", "item3"]
    assert ranked["rank"].to_list() == [1, 2, 3, 1, 2, 3]
    assert ranked.schema["rank"] == pl.Int32
    assert ranked.columns == [*frame.columns, "rank"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([-1.0, -0.0, 0.0, 0.5, 2.0]), min_size=1, max_size=30), st.randoms())
def test_row_order_does_not_matter_even_with_ties(scores: list[float], random) -> None:  # type: ignore[no-untyped-def]
    frame = _lists(scores)
    rows = list(range(frame.height))
    random.shuffle(rows)
    assert order(frame[rows]).drop("score").equals(order(frame).drop("score"))


def test_ties_follow_the_hash_and_not_the_alphabet() -> None:
    ranked = order(_lists([1.0] * 30, impressions=1))
    hashes = stable_hash(ranked["item_id"])
    assert hashes.is_sorted()
    assert not ranked["item_id"].is_sorted()


def test_the_hash_never_changes() -> None:
    ids = pl.Series(["a", "b", "a"])
    assert stable_hash(ids).to_list()[0] == stable_hash(ids).to_list()[2] == 3405396810240292928
    assert stable_hash(ids, seed=1)[0] != stable_hash(ids)[0]
    assert stable_hash(ids).dtype == pl.UInt64


def test_top_keeps_the_best_of_each_group() -> None:
    assert top(_lists([0.1, 5.0, 0.3, 4.0, 0.2, 6.0]), 1)["item_id"].to_list() == ["item2", "item5"]


def test_group_and_score_columns_may_have_other_names() -> None:
    frame = _lists([1.0, 2.0], impressions=1).rename({"impression_id": "user_id", "score": "rank_score"})
    assert order(frame, by="user_id", score="rank_score")["rank_score"].to_list() == [2.0, 1.0]


@pytest.mark.parametrize("bad", [None, float("nan")])
def test_a_score_that_is_not_a_number_is_rejected(bad: float | None) -> None:
    frame = _lists([1.0, 2.0, 3.0]).with_columns(score=pl.Series([1.0, bad, 3.0]))
    with pytest.raises(ModelError, match=r"1 of 3 rows have no number in 'score'"):
        order(frame)


def test_integer_scores_rank_too_and_a_missing_column_is_named() -> None:
    assert order(_lists([1.0, 3.0, 2.0], 1).cast({"score": pl.Int64}))["score"].to_list() == [3, 2, 1]
    with pytest.raises(TableError, match="needs the columns score"):
        order(_lists([1.0]).drop("score"))


def test_no_rows_give_no_groups() -> None:
    assert order(_lists([])).columns == ["impression_id", "item_id", "score", "rank"]
