import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from features.errors import ModelError
from models.evaluation.evaluate import difference, evaluate


def _world(count: int = 300, seed: int = 0) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    taste = random.normal(size=count)
    clicked = random.random(count) < 1 / (1 + np.exp(-taste))
    return pl.DataFrame(
        {
            "impression_id": [f"i{n:04}" for n in range(count)],
            "item_id": [f"a{n % 7}" for n in range(count)],
            "label": clicked * 2.0,
            "good": taste,
            "noise": random.normal(size=count),
            "chance": 1 / (1 + np.exp(-taste)),
            "new": random.random(count) < 0.3,
        }
    )


def test_auc_and_log_loss_agree_with_scikit_learn() -> None:
    frame = _world()
    evaluated = evaluate(frame, ["good", "noise"], {"new": pl.col("new")}, probabilities={"good": "chance"})
    for segment, rows in (("all", frame), ("new", frame.filter("new"))):
        scorers = evaluated.as_json(segment)["scorers"]
        clicked = (rows["label"] > 0).to_numpy()
        for scorer in ("good", "noise"):
            assert scorers[scorer]["pooled_auc"]["mean"] == pytest.approx(
                roc_auc_score(clicked, rows[scorer].to_numpy()), abs=1e-12
            )
        assert scorers["good"]["log_loss"]["mean"] == pytest.approx(
            log_loss(clicked, rows["chance"]), abs=1e-12
        )
        assert scorers["noise"]["log_loss"]["mean"] is None
        auc = scorers["good"]["pooled_auc"]
        assert auc["low"] < auc["mean"] < auc["high"]
    assert (evaluated.metrics.headline, evaluated.impressions, evaluated.skipped) == ("pooled_auc", 300, 0)


def test_differences_of_auc_are_paired() -> None:
    frame = _world().with_columns(near=pl.col("good") + 0.01 * pl.col("noise"))
    values = evaluate(frame, ["good", "near", "noise"]).values
    assert difference(values, "good", "noise", "pooled_auc").low > 0
    paired = difference(values, "good", "near", "pooled_auc")
    alone = evaluate(frame, ["good"]).as_json()["scorers"]["good"]["pooled_auc"]
    assert paired.high - paired.low < (alone["high"] - alone["low"]) / 5
    with pytest.raises(ModelError, match="not the same ones"):
        difference(values.filter((pl.col("scorer") == "good") | (pl.col("impression_id") > "i0009")), "good", "near", "pooled_auc")  # fmt: skip  # noqa: E501


def test_labels_of_one_class_are_not_evaluated() -> None:
    evaluated = evaluate(_world().with_columns(label=1.0), ["good"], probabilities={"good": "chance"})
    assert (evaluated.impressions, evaluated.skipped) == (0, 300)
    assert evaluated.as_json()["scorers"]["good"]["pooled_auc"]["mean"] is None
