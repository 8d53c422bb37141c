import numpy as np
import polars as pl
import pytest

from features.errors import ModelError
from models.ranker.calibration import calibrate


def _sample(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, their true click probabilities (not linear in the score), and clicks."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=count) * 3
    chance = 0.02 + 0.3 / (1 + np.exp(-(scores - 2) * 2))
    return scores, chance, random.random(count) < chance


def test_calibration_recovers_the_true_probability() -> None:
    scores, _, clicked = _sample(40_000, 1)
    calibration = calibrate(scores, clicked)
    fresh, chance, _ = _sample(5_000, 2)
    probability = calibration.probability(pl.Series(fresh))
    assert probability.name == "click_probability"
    assert np.abs(probability.to_numpy() - chance).mean() < 0.01
    assert np.abs(1 / (1 + np.exp(-fresh)) - chance).mean() > 0.2
    assert np.mean(calibration.probability(pl.Series(scores)).to_numpy()) == pytest.approx(
        clicked.mean(), abs=1e-4
    )


def test_probabilities_never_decrease_and_stay_inside_0_and_1() -> None:
    scores, _, clicked = _sample(300, 1)
    calibration = calibrate(scores, clicked)
    values = calibration.probability(pl.Series(np.linspace(-1e6, 1e6, 999)))
    assert (values.diff().drop_nulls() >= 0).all()
    assert 0 < values[0] < values[-1] < 1
    assert calibration.probability(pl.Series([], dtype=pl.Float64)).to_list() == []


@pytest.mark.parametrize("clicked", [[False], [True]])
def test_one_score_is_enough_and_none_is_refused(clicked: list[bool]) -> None:
    (value,) = calibrate(np.array([2.0]), np.array(clicked)).probability(pl.Series([0.0]))
    assert value == (0.75 if clicked[0] else 0.25)
    with pytest.raises(ModelError, match="no scores to calibrate"):
        calibrate(np.array([]), np.array([], bool))
