import polars as pl
import pytest

from features.config.sections import Promotion
from models.evaluation.evaluate import EvaluationResult, evaluate
from models.evaluation.seed_variance import GAIN, gain, seed_variance

LABELS = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
RIGHT, WRONG = LABELS, [-label for label in LABELS]


def evaluated(
    full: list[float], behaviour_only: list[float], labels: list[float] = LABELS
) -> EvaluationResult:
    """Two impressions of three candidates."""
    frame = pl.DataFrame(
        {
            "impression_id": ["a"] * 3 + ["b"] * 3,
            "item_id": ["x", "y", "z"] * 2,
            "label": labels,
            "full": full,
            "behaviour_only": behaviour_only,
        }
    )
    return evaluate(frame, ("full", "behaviour_only"), resamples=100)


def test_the_gain_is_full_minus_behaviour_only() -> None:
    found = gain(evaluated(RIGHT, WRONG), Promotion(), 1)

    assert found["auc"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert found["mrr"]["mean"] == pytest.approx(1 - 1 / 3)
    assert gain(evaluated(WRONG, RIGHT), Promotion(), 1)["auc"]["mean"] == -1.0


def test_the_seed_variance_is_the_mean_and_deviation_over_seeds() -> None:
    half = [1.0, 0.0, 0.0, 1.0, 0.0, 1.0]  # one impression right, one wrong

    found = seed_variance([evaluated(RIGHT, WRONG), evaluated(half, WRONG), evaluated(WRONG, WRONG)])

    assert found["full"]["auc"] == {"mean": 0.5, "deviation": 0.5, "values": [1.0, 0.5, 0.0]}
    assert found["behaviour_only"]["auc"] == {"mean": 0.0, "deviation": 0.0, "values": [0.0, 0.0, 0.0]}
    assert found[GAIN]["auc"]["values"] == [1.0, 0.5, 0.0]


def test_there_is_no_mean_if_nothing_was_evaluated() -> None:
    nothing = evaluated(RIGHT, WRONG, labels=[0.0] * 6)

    found = seed_variance([nothing, evaluated(RIGHT, WRONG)])

    assert found["full"]["auc"] == {"mean": None, "deviation": None, "values": [None, 1.0]}
    assert found[GAIN]["auc"]["values"] == [None, 1.0]
    assert seed_variance([evaluated(RIGHT, WRONG)])["full"]["auc"]["deviation"] is None
