from hashlib import blake2b

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score

from features.errors import ModelError, TableError
from models.evaluation.metrics import METRICS, Lists, per_impression, pooled_auc
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


@st.composite
def _lists(draw: st.DrawFn) -> pl.DataFrame:
    """Impressions of any size, some without clicks or with clicks only; many scores tie."""
    scores = st.sampled_from([-1e9, -0.5, -0.0, 0.0, 1e-9, 0.5, 3.0]) | st.floats(-5, 5)
    labels = st.sampled_from([0.0, 0.0, 1.0, 2.5])
    row = st.tuples(labels, scores)
    drawn = draw(st.lists(st.lists(row, min_size=1, max_size=25), min_size=1, max_size=6))
    return pl.concat(
        _frame([label for label, _ in rows], [score for _, score in rows], f"i{n}")
        for n, rows in enumerate(drawn)
    )


def _by_hand(rows: pl.DataFrame) -> dict[str, float | None]:
    """Metrics of one impression in plain loops, with a second implementation of the tie-break."""
    listed = sorted(
        zip(rows["score"], rows["item_id"], rows["label"], strict=True),
        key=lambda row: (
            -row[0],
            int.from_bytes(blake2b(row[1].encode(), digest_size=8, salt=bytes(16)).digest(), "little"),
        ),
    )
    labels = [label for _, _, label in listed]
    clicked = [label > 0 for label in labels]
    if not any(clicked) or all(clicked):
        return dict.fromkeys(METRICS)
    scores = np.arange(len(labels), 0, -1)
    return {
        "ndcg@5": ndcg_score([labels], [scores], k=5),
        "ndcg@10": ndcg_score([labels], [scores], k=10),
        "recall@10": sum(clicked[:10]) / sum(clicked),
        "mrr": 1 / (1 + clicked.index(True)),
        "auc": roc_auc_score(rows["label"] > 0, rows["score"]),
    }


@given(_lists())
def test_every_metric_agrees_with_loops_and_scikit_learn_to_1e_12_with_ties(frame: pl.DataFrame) -> None:
    found = per_impression(frame)
    assert found.height == frame["impression_id"].n_unique()
    for row in found.iter_rows(named=True):
        rows = frame.filter(pl.col("impression_id") == row["impression_id"])
        assert (row["candidates"], row["positives"]) == (rows.height, (rows["label"] > 0).sum())
        for metric, expected in _by_hand(rows).items():
            assert row[metric] == (None if expected is None else pytest.approx(expected, abs=1e-12)), metric


@given(_lists(), st.randoms(use_true_random=False))
def test_evaluating_selected_rows_is_evaluating_a_frame_of_them(frame: pl.DataFrame, random: object) -> None:
    selected = np.array([random.random() < 0.6 for _ in range(frame.height)])  # type: ignore[attr-defined]
    apart = Lists(frame, ["score"]).measure("score", selected)
    assert apart.equals(per_impression(frame.filter(pl.Series(selected))))


def test_recall_is_the_share_of_positives_in_the_first_ten() -> None:
    found = per_impression(_frame([1.0] * 3 + [0.0] * 8 + [2.0], [12.0, 11.0, 1.0, *range(10, 2, -1), 2.0]))
    assert found["recall@10"].item() == 2 / 4
    short = per_impression(_frame([0.0] * 9 + [1.0], [float(n) for n in range(10, 0, -1)]))
    assert short["recall@10"].item() == 1.0


def test_infinite_scores_tie_with_each_other() -> None:
    infinite = float("inf")
    assert per_impression(_frame([1.0, 0.0, 0.0], [infinite, infinite, -infinite]))["auc"].item() == 0.75


def test_mrr_agrees_with_counting_ranks() -> None:
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
    assert [row[metric] for metric in METRICS] == [1.0] * len(METRICS)


def test_equal_scores_have_an_auc_of_one_half() -> None:
    assert per_impression(_frame([1.0, 0.0, 0.0], [2.0, 2.0, 2.0]))["auc"].item() == 0.5


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_impressions_of_one_class_are_counted_and_null(label: float) -> None:
    row = per_impression(_frame([label] * 3, [1.0, 2.0, 3.0])).row(0, named=True)
    assert (row["candidates"], row["positives"]) == (3, 3 * label)
    assert [row[metric] for metric in METRICS] == [None] * len(METRICS)
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


def test_invalid_labels_and_scores_are_rejected() -> None:
    with pytest.raises(ModelError, match="'label' that is not a gain of 0 or more"):
        per_impression(_frame([1.0, -1.0], [1.0, 2.0]))
    with pytest.raises(ModelError, match="'score' that is not a number"):
        pooled_auc(_frame([1.0, 0.0], [1.0, float("nan")]))
    with pytest.raises(TableError, match="label"):
        per_impression(_frame([1.0], [1.0]).drop("label"))
