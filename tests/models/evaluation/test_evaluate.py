import json

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from features.errors import ModelError, TableError
from models.evaluation.evaluate import calibration, calibration_error, difference, evaluate
from models.evaluation.metrics import METRICS, per_impression, pooled_auc


def _world(impressions: int = 120, size: int = 8, seed: int = 0, prefix: str = "i") -> pl.DataFrame:
    """Impressions with labels, a good score, a slightly noisier one, and noise."""
    random = np.random.default_rng(seed)
    count = impressions * size
    taste = random.normal(size=count)
    good = taste + random.normal(size=count) * 0.5
    return pl.DataFrame(
        {
            "impression_id": [f"{prefix}{n // size:04}" for n in range(count)],
            "item_id": [f"item{n}" for n in random.integers(0, 10**9, count)],
            "label": (taste + random.gumbel(size=count) > 2.0).astype(float),
            "good": good,
            "near": good + random.normal(size=count) * 0.1,
            "noise": random.normal(size=count),
            "item_new": random.random(count) < 0.5,
            "user_new": [n // size % 3 == 0 for n in range(count)],
        }
    )


def _mean(evaluated, scorer: str, metric: str, segment: str = "all") -> dict:  # type: ignore[no-untyped-def,type-arg]
    return evaluated.table.row(by_predicate=(pl.col("scorer") == scorer) & (pl.col("metric") == metric)
                            & (pl.col("segment") == segment), named=True)  # fmt: skip


def test_means_are_over_evaluated_impressions_and_skipped_ones_are_counted() -> None:
    frame = _world()
    evaluated = evaluate(frame, ["good", "noise"])
    singles = per_impression(frame.rename({"good": "score"}))
    assert evaluated.impressions + evaluated.skipped == 120
    assert evaluated.skipped == singles["auc"].null_count() > 0
    for metric in METRICS:
        row = _mean(evaluated, "good", metric)
        assert row["mean"] == pytest.approx(singles[metric].mean(), abs=1e-12)
        # Eight candidates are all in the first ten ranks.
        assert row["low"] < row["mean"] < row["high"] or (metric == "recall@10" and row["low"] == 1.0)
        assert row["impressions"] == evaluated.impressions
    assert _mean(evaluated, "good", "auc")["low"] > _mean(evaluated, "noise", "auc")["high"]


def test_pooled_auc_is_over_every_row_and_its_interval_agrees_with_a_plain_bootstrap() -> None:
    frame = _world().with_columns(good=pl.col("good").round(0))
    row = _mean(evaluate(frame, ["good"], seed=3), "good", "pooled_auc")
    labels, scores = frame["label"].to_numpy().reshape(120, 8), frame["good"].to_numpy().reshape(120, 8)
    assert row["mean"] == pytest.approx(roc_auc_score(labels.ravel(), scores.ravel()), abs=1e-12)
    drawn = np.random.default_rng(3).integers(0, 120, (200, 120))
    plain = [roc_auc_score(labels[draw].ravel(), scores[draw].ravel()) for draw in drawn]
    assert [row["low"], row["high"]] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=1e-12)
    assert row["impressions"] == 120


def test_impressions_of_one_candidate_are_evaluated_with_pooled_auc() -> None:
    frame = _world(impressions=300, size=1)
    evaluated = evaluate(frame, ["good"])
    assert (evaluated.impressions, evaluated.skipped, evaluated.metrics.headline) == (300, 0, "pooled_auc")
    assert set(evaluated.table["metric"]) == {"pooled_auc", "log_loss"}
    assert _mean(evaluated, "good", "pooled_auc")["mean"] == pooled_auc(frame.rename({"good": "score"}))


def test_json_has_the_documented_shape_and_no_nan() -> None:
    result = evaluate(_world(), ["good", "noise"]).as_json()
    assert set(result) == {"impressions", "headline", "scorers"}
    assert set(result["scorers"]) == {"good", "noise"}
    for metrics in result["scorers"].values():
        assert set(metrics) == {*METRICS, "pooled_auc"}
        assert all(set(interval) == {"mean", "low", "high"} for interval in metrics.values())
    json.dumps(evaluate(_world().clear(), ["good"]).as_json(), allow_nan=False)


def test_an_empty_evaluation_has_null_metrics() -> None:
    evaluated = evaluate(_world().clear(), ["good", "noise"])
    assert (evaluated.impressions, evaluated.skipped) == (0, 0)
    assert evaluated.table.height == 2 * (len(METRICS) + 1)
    assert evaluated.table["mean"].null_count() == evaluated.table.height


def test_row_order_does_not_matter_and_the_same_seed_gives_the_same_figures() -> None:
    frame = _world()
    once = evaluate(frame, ["good", "noise"], {"new": pl.col("item_new")}, seed=4)
    again = evaluate(frame.sample(fraction=1.0, shuffle=True, seed=9), ["good", "noise"], {"new": pl.col("item_new")}, seed=4)  # fmt: skip  # noqa: E501
    assert once.table.equals(again.table)
    assert once.values.equals(again.values)
    assert not once.table.equals(
        evaluate(frame, ["good", "noise"], {"new": pl.col("item_new")}, seed=5).table
    )


def test_a_user_segment_selects_impressions_and_an_item_segment_candidates() -> None:
    frame = _world()
    evaluated = evaluate(frame, ["good"], {"new users": pl.col("user_new"), "new items": pl.col("item_new")})
    users = evaluated.values.filter(pl.col("segment") == "new users")
    items = evaluated.values.filter(pl.col("segment") == "new items")
    every = evaluated.values.filter(pl.col("segment") == "all").drop("segment")
    assert users.height == 40
    assert users.drop("segment").equals(
        every.filter(pl.col("impression_id").is_in(users["impression_id"].implode()))
    )
    assert items["candidates"].sum() == frame["item_new"].sum()
    expected = per_impression(frame.filter("item_new").rename({"good": "score"}))
    assert items["auc"].equals(expected["auc"])


def test_a_segment_of_few_impressions_is_left_out_and_reported() -> None:
    segments = {
        "rare": pl.col("impression_id") < "i0009",
        "common": pl.col("user_new"),
        "none": pl.lit(False),
    }
    everything = evaluate(_world(), ["good"], segments)
    evaluated = evaluate(_world(), ["good"], segments, min_impressions=20)
    rare = everything.values.filter(pl.col("segment") == "rare")["auc"].drop_nulls().len()
    assert evaluated.left_out == {"rare": rare, "none": 0}
    assert 0 < rare < 20
    assert everything.left_out == {}
    for name in ("table", "values"):
        expected = getattr(everything, name).filter(~pl.col("segment").is_in(["rare", "none"]))
        assert getattr(evaluated, name).equals(expected)


def test_pooled_auc_has_an_interval_over_all_rows_and_a_mean_in_segments() -> None:
    frame = _world()
    evaluated = evaluate(frame, ["good"], {"new users": pl.col("user_new")})
    assert _mean(evaluated, "good", "pooled_auc")["low"] is not None
    apart = _mean(evaluated, "good", "pooled_auc", "new users")
    assert apart["mean"] == pooled_auc(frame.filter("user_new").rename({"good": "score"}))
    assert (apart["low"], apart["high"]) == (None, None)


def test_a_paired_interval_is_narrower_than_the_difference_of_two_intervals() -> None:
    evaluated = evaluate(_world(), ["good", "near", "noise"])
    paired = difference(evaluated.values, "good", "near")
    good, near = (_mean(evaluated, scorer, "ndcg@10") for scorer in ("good", "near"))
    assert paired.mean == pytest.approx(good["mean"] - near["mean"], abs=1e-12)
    assert paired.high - paired.low < 0.5 * ((good["high"] - good["low"]) + (near["high"] - near["low"]))
    assert difference(evaluated.values, "good", "noise").low > 0


def test_the_interval_covers_the_truth_at_its_confidence() -> None:
    random = np.random.default_rng(11)
    covered = 0
    for draw in range(150):
        ids = [f"i{n:02}" for n in range(60)]
        values = pl.concat(
            pl.DataFrame({"impression_id": ids, "ndcg@10": random.normal(center, 0.2, 60)}).with_columns(
                segment=pl.lit("all"), scorer=pl.lit(name)
            )
            for name, center in (("a", 0.55), ("b", 0.5))
        )
        interval = difference(values, "a", "b", seed=draw, confidence=0.9, resamples=400)
        covered += interval.low <= 0.05 <= interval.high
    assert 0.82 <= covered / 150 <= 0.96


def test_a_difference_needs_the_same_impressions() -> None:
    values = evaluate(_world(), ["good", "noise"]).values
    short = values.filter((pl.col("scorer") == "good") | (pl.col("impression_id") != "i0003"))
    with pytest.raises(ModelError, match="'noise' was evaluated on 119 impressions, 'good' on 120"):
        difference(short, "good", "noise")
    with pytest.raises(ModelError, match="'absent' was evaluated on 0"):
        difference(values, "good", "absent")


def test_a_missing_score_column_is_named() -> None:
    with pytest.raises(TableError, match="evaluation needs the columns full"):
        evaluate(_world(), ["good", "full"])


def test_calibration_of_true_probabilities_is_close_and_of_doubled_ones_is_not() -> None:
    random = np.random.default_rng(2)
    probability = pl.Series(random.uniform(0, 0.4, 20_000))
    clicked = pl.Series(random.random(20_000) < probability.to_numpy())
    table = calibration(probability, clicked)
    assert table["bin"].to_list() == list(range(1, 11))
    assert table["count"].to_list() == [2000] * 10
    assert calibration_error(table) < 0.01
    assert calibration_error(calibration(probability * 2, clicked)) == pytest.approx(0.2, abs=0.02)


def test_equal_predictions_share_a_bin() -> None:
    table = calibration(pl.Series([0.1] * 90 + [0.9] * 10), pl.Series([False] * 90 + [True] * 10))
    assert table["count"].to_list() == [90, 10]
    assert table["observed"].to_list() == [0.0, 1.0]
