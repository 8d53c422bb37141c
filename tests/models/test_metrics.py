import numpy as np
import polars as pl
import pytest
from sklearn.metrics import ndcg_score, roc_auc_score

from features.errors import ModelError, TableError
from models.metrics import METRICS, per_impression, pooled_auc
from models.ranking import order


def _frame(labels: list[float], scores: list[float], impression: str = "a") -> pl.DataFrame:
    ids = [f"item{n}" for n in range(len(labels))]
    return pl.DataFrame(
        {"impression_id": [impression] * len(labels), "item_id": ids, "label": labels, "score": scores},
        schema_overrides={"label": pl.Float64, "score": pl.Float64},
    )


def _random_lists(tied: bool, count: int = 200) -> pl.DataFrame:
    random = np.random.default_rng(5)
    lists = []
    for n in range(count):
        size = int(random.integers(2, 40))
        labels = random.choice([0.0, 0.0, 0.0, 1.0, 2.0, 3.5], size)
        scores = random.integers(0, 5, size).astype(float) if tied else random.permutation(size) / 7
        lists.append(_frame(labels.tolist(), scores.tolist(), f"i{n:04}"))
    return pl.concat(lists)


def test_ndcg_agrees_with_scikit_learn_to_1e_12() -> None:
    frame = _random_lists(tied=False)
    ours = per_impression(frame).drop_nulls()
    assert ours.height > 100
    for row in ours.iter_rows(named=True):
        rows = frame.filter(pl.col("impression_id") == row["impression_id"])
        labels, scores = rows["label"].to_numpy(), rows["score"].to_numpy()
        for k in (5, 10):
            assert row[f"ndcg@{k}"] == pytest.approx(ndcg_score([labels], [scores], k=k), abs=1e-12)


@pytest.mark.parametrize("tied", [False, True])
def test_auc_agrees_with_scikit_learn_to_1e_12_with_ties_too(tied: bool) -> None:
    frame = _random_lists(tied)
    for row in per_impression(frame).drop_nulls().iter_rows(named=True):
        rows = frame.filter(pl.col("impression_id") == row["impression_id"])
        expected = roc_auc_score(rows["label"].to_numpy() > 0, rows["score"].to_numpy())
        assert row["auc"] == pytest.approx(expected, abs=1e-12)
    expected = roc_auc_score(frame["label"].to_numpy() > 0, frame["score"].to_numpy())
    assert pooled_auc(frame) == pytest.approx(expected, abs=1e-12)


def test_mrr_agrees_with_counting_down_the_list() -> None:
    frame = _random_lists(tied=True, count=50)
    for row in per_impression(frame).drop_nulls().iter_rows(named=True):
        ranked = order(frame.filter(pl.col("impression_id") == row["impression_id"]))
        first = next(n for n, label in enumerate(ranked["label"], start=1) if label > 0)
        assert row["mrr"] == pytest.approx(1 / first, abs=1e-12)


def test_gain_is_linear_in_the_label() -> None:
    row = per_impression(_frame([1.0, 3.0, 0.0], [3.0, 2.0, 1.0])).row(0, named=True)
    assert row["ndcg@5"] == pytest.approx((1 + 3 / np.log2(3)) / (3 + 1 / np.log2(3)), abs=1e-12)


def test_the_best_order_is_exactly_one() -> None:
    row = per_impression(_frame([3.0, 1.0, 1.0, 0.0, 0.0], [5.0, 4.0, 3.0, 2.0, 1.0])).row(0, named=True)
    assert [row[metric] for metric in METRICS] == [1.0, 1.0, 1.0, 1.0]


def test_all_scores_equal_is_an_auc_of_one_half() -> None:
    assert per_impression(_frame([1.0, 0.0, 0.0], [2.0, 2.0, 2.0]))["auc"].item() == 0.5


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_lists_without_a_positive_or_with_nothing_else_are_counted_and_null(label: float) -> None:
    row = per_impression(_frame([label] * 3, [1.0, 2.0, 3.0])).row(0, named=True)
    assert (row["candidates"], row["positives"]) == (3, 3 * label)
    assert [row[metric] for metric in METRICS] == [None] * 4
    assert pooled_auc(_frame([label] * 3, [1.0, 2.0, 3.0])) is None


def test_row_order_does_not_matter_to_the_last_bit() -> None:
    frame = _random_lists(tied=True)
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=3)
    assert per_impression(shuffled).equals(per_impression(frame))
    assert per_impression(frame)["impression_id"].is_sorted()


def test_no_rows_give_no_impressions() -> None:
    empty = per_impression(_frame([], []).cast({"impression_id": pl.String, "item_id": pl.String}))
    assert empty.columns == ["impression_id", "candidates", "positives", *METRICS]
    assert empty.is_empty()


def test_what_is_no_label_or_score_is_refused() -> None:
    with pytest.raises(ModelError, match="'label' that is not a gain of 0 or more"):
        per_impression(_frame([1.0, -1.0], [1.0, 2.0]))
    with pytest.raises(ModelError, match="'score' that is not a number"):
        pooled_auc(_frame([1.0, 0.0], [1.0, float("nan")]))
    with pytest.raises(TableError, match="label"):
        per_impression(_frame([1.0], [1.0]).drop("label"))
