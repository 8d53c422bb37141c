from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.interest.config import InterestConfig
from models.interest.fit import fine_tune
from models.interest.held_out import calibration_error, split
from models.interest.scoring import score


@pytest.fixture
def config(narrow_config: InterestConfig) -> InterestConfig:
    return replace(
        narrow_config, tune="frozen", epochs=30, impressions_per_step=8, decoder_rate=1e-2, holdout=0.25
    )


def test_the_latest_impressions_are_watched_and_none_is_lost(random_moments) -> None:
    moments = random_moments(1, users=9)

    fitted, watched = split(moments, 0.25)

    assert len(watched.impression_user) == 9
    assert fitted.impression_at.max() <= watched.impression_at.min()
    assert len(fitted.candidate_item) + len(watched.candidate_item) == len(moments.candidate_item)
    assert fitted.label.sum() + watched.label.sum() == moments.label.sum()


def test_a_fit_of_noise_stops_early_and_keeps_its_best_epoch(
    config: InterestConfig, random_items, random_moments, tmp_path: Path
) -> None:
    model = fine_tune(
        random_items(20), random_moments(2, users=12), config, start_from=None, checkpoint=tmp_path
    )

    losses = [entry["held_out_loss"] for entry in model.history if "held_out_loss" in entry]
    assert len(losses) < config.epochs
    assert int(np.argmin(losses)) == len(losses) - 1 - config.patience
    assert all(0 <= e["held_out_calibration_error"] <= 1 for e in model.history if "held_out_loss" in e)


def test_the_best_epoch_is_what_is_scored_with(
    config: InterestConfig, random_items, random_moments, tmp_path: Path
) -> None:
    items, moments = random_items(20), random_moments(2, users=12)
    best = fine_tune(items, moments, config, start_from=None, checkpoint=tmp_path)
    later = fine_tune(items, moments, replace(config, patience=2), start_from=None, checkpoint=tmp_path)

    assert np.array_equal(score(best, items, moments), score(later, items, moments))
    assert len(later.history) > len(best.history)


def test_an_interrupted_fit_with_a_holdout_ends_as_the_uninterrupted(
    config: InterestConfig, random_items, random_moments, tmp_path: Path
) -> None:
    items, moments = random_items(20), random_moments(2, users=12)
    whole = fine_tune(items, moments, config, start_from=None, checkpoint=tmp_path / "a")

    def die(facts: dict[str, float]) -> None:
        if facts["epoch"] == len([e for e in whole.history if "held_out_loss" in e]):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fine_tune(items, moments, config, start_from=None, checkpoint=tmp_path / "b", progress=die)
    resumed = fine_tune(items, moments, config, start_from=None, checkpoint=tmp_path / "b")

    assert np.allclose(score(resumed, items, moments), score(whole, items, moments), atol=1e-5)
    assert len(resumed.history) == len(whole.history)


def test_calibration_error_is_the_formula() -> None:
    probability = np.array([0.11, 0.13, 0.95, 1.0], np.float32)
    clicked = np.array([False, True, True, True])

    assert calibration_error(probability, clicked) == pytest.approx((abs(0.24 - 1) + abs(1.95 - 2)) / 4)
