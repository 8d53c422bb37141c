from typing import Any

import numpy as np
import polars as pl
import pytest

from features.config.sections import Promotion
from features.errors import ModelError
from models.evaluation.baselines import BASELINES
from models.evaluation.evaluate import impression_values
from models.evaluation.promotion import MIN_IMPRESSIONS, Decision, decide


def _values(count: int = 200, **gains: float) -> pl.DataFrame:
    """Per-impression nDCG@10 of each scorer: a shared difficulty, plus its gain and a little noise."""
    random = np.random.default_rng(0)
    difficulty = random.uniform(0.3, 0.7, count)
    return pl.concat(
        pl.DataFrame(
            {
                "segment": ["all"] * count,
                "scorer": [scorer] * count,
                "impression_id": [f"i{n:04}" for n in range(count)],
                "ndcg@10": difficulty + gain + random.normal(0, 0.01, count),
            }
        ).with_columns(evaluated=True)
        for scorer, gain in gains.items()
    )


def _decide(
    values: pl.DataFrame, config: Promotion, seed: int = 1, *, error: float = 0.01, **names: Any
) -> Decision:
    return decide(values, config, seed, calibration_error=error, **names)


def _guarded(gap: float, count: int = 60) -> pl.DataFrame:
    """A challenger that is better overall and differs by `gap` on `count` impressions of new users."""
    everything = _values(challenger=0.05, champion=0.0)
    few = _values(count, challenger=gap, champion=0.0).with_columns(segment=pl.lit("new_users"))
    return pl.concat([everything, few])


def test_a_guarded_segment_that_loses_more_than_its_margin_blocks() -> None:
    guard = Promotion(guard={"new_users": 0.03})
    safe, lost = (_decide(_guarded(gap), guard) for gap in (-0.01, -0.06))
    assert (safe.promote, lost.promote) == (True, False)
    assert lost.guards[0][:2] == ("new_users", 60)
    assert lost.reasons[3] == (
        "In 'new users' (60 impressions) the challenger's mean ndcg@10 differs from the champion's by "
        f"{lost.guards[0].difference:+.4f}, beyond the -0.0300 allowed."
    )
    assert "within the -0.0300 allowed" in safe.reasons[3]
    assert lost.figures()["guard_slack"] == lost.guards[0].difference + 0.03 < 0
    assert safe.figures()["guard_slack"] > 0
    assert _decide(_guarded(-0.06), Promotion(guard={})).promote


def test_a_guarded_segment_with_too_few_impressions_is_reported_and_does_not_block() -> None:
    decision = _decide(
        _guarded(-0.5, MIN_IMPRESSIONS - 1), Promotion(guard={"new_users": 0.03, "new_items": 0.03})
    )
    assert decision.promote
    assert decision.reasons[3].startswith(
        "Only 29 impressions could be evaluated in 'new users'; 30 are needed"
    )
    assert decision.reasons[4].startswith("Only 0 impressions could be evaluated in 'new items'")
    assert decision.figures()["guard_slack"] is None


@pytest.mark.parametrize("champion", ["champion", None])
def test_miscalibrated_probabilities_block(champion: str | None) -> None:
    values = _values(challenger=0.05, champion=0.0, **dict.fromkeys(BASELINES, 0.0))
    good, bad, none = (
        _decide(values, Promotion(calibration=0.02), error=error, champion=champion)
        for error in (0.02, 0.03, float("nan"))
    )
    assert (good.promote, bad.promote, none.promote) == (True, False, False)
    assert (
        bad.reasons[-1]
        == "Its click probabilities are off by 0.0300 on average, more than the 0.0200 allowed."
    )
    assert bad.figures()["calibration_slack"] == pytest.approx(-0.01)


def test_a_first_challenger_has_no_guards() -> None:
    values = _values(challenger=0.05, **dict.fromkeys(BASELINES, 0.0))
    assert _decide(values, Promotion(guard={"new_users": 0.0}), champion=None).guards == ()


def test_a_better_challenger_is_promoted_and_the_reasons_carry_the_figures() -> None:
    decision = _decide(_values(challenger=0.05, champion=0.0), Promotion(), seed=1)
    assert decision.promote
    assert decision.difference.low > 0.04
    assert decision.impressions == 200
    assert decision.against == "champion"
    assert decision.reasons[0] == "200 impressions were evaluated."
    assert f"{decision.difference.mean:+.4f}" in decision.reasons[1]
    assert f"[{decision.difference.low:+.4f}, {decision.difference.high:+.4f}]" in decision.reasons[2]


def test_a_worse_challenger_is_rejected() -> None:
    decision = _decide(_values(challenger=-0.05, champion=0.0), Promotion(), seed=1)
    assert not decision.promote
    assert decision.difference.high < 0
    assert "below the required +0.0000" in decision.reasons[1]
    assert "it may be worse by more than the margin" in decision.reasons[2]


def test_a_slightly_worse_challenger_is_rejected_even_within_the_margin() -> None:
    decision = _decide(_values(challenger=-0.003, champion=0.0), Promotion(margin=0.02), seed=1)
    assert decision.difference.low > -0.02
    assert not decision.promote


def test_a_challenger_as_good_as_the_champion_is_promoted() -> None:
    same = _values(challenger=0.0)
    values = pl.concat([same, same.with_columns(scorer=pl.lit("champion"))])
    assert _decide(values, Promotion(), seed=1).promote


def test_a_better_mean_with_a_wide_interval_is_rejected() -> None:
    noisy = np.random.default_rng(0).normal(0.005, 0.3, 40)
    values = _values(40, challenger=0.0, champion=0.0).with_columns(
        pl.Series("ndcg@10", np.concatenate([0.5 + noisy - noisy.mean() + 0.01, np.full(40, 0.5)]))
    )
    decision = _decide(values, Promotion(), seed=1)
    assert decision.difference.mean > 0
    assert not decision.promote


def test_min_gain_is_required() -> None:
    values = _values(challenger=0.02, champion=0.0)
    assert _decide(values, Promotion(min_gain=0.01), seed=1).promote
    assert not _decide(values, Promotion(min_gain=0.03), seed=1).promote


@pytest.mark.parametrize("champion", ["champion", None])
def test_too_few_impressions_are_not_enough_to_promote(champion: str | None) -> None:
    values = _values(
        MIN_IMPRESSIONS - 1, challenger=0.2, champion=0.0, random=0.0, popularity=0.0, recency=0.0
    )
    decision = _decide(values, Promotion(), seed=1, champion=champion)
    assert not decision.promote
    assert decision.reasons[0] == "Only 29 impressions could be evaluated; 30 are needed to decide."


def test_skipped_impressions_do_not_count() -> None:
    values = _values(challenger=0.05, champion=0.0).with_columns(
        pl.lit(None, pl.Float64).alias("ndcg@10"), evaluated=False
    )
    decision = _decide(values, Promotion(), seed=1)
    assert (decision.promote, decision.impressions, len(decision.reasons)) == (False, 0, 1)


def test_the_first_challenger_must_beat_the_best_baseline() -> None:
    weak = dict.fromkeys(BASELINES, 0.0)
    good = _decide(_values(challenger=0.05, **weak | {"popularity": 0.03}), Promotion(), 1, champion=None)
    bad = _decide(_values(challenger=0.05, **weak | {"popularity": 0.08}), Promotion(), 1, champion=None)
    assert good.promote
    assert not bad.promote
    assert good.against == bad.against == "popularity"
    assert "best baseline's (popularity)" in bad.reasons[1]


def test_models_evaluated_on_different_impressions_cannot_be_compared() -> None:
    values = _values(challenger=0.05, champion=0.0)
    with pytest.raises(ModelError, match="not the same ones"):
        _decide(
            values.filter((pl.col("scorer") == "challenger") | (pl.col("impression_id") > "i0100")),
            Promotion(),
            1,
        )


def _single(**slopes: float) -> pl.DataFrame:
    """Impressions of one candidate; each score follows the clicks with its scorer's slope."""
    random = np.random.default_rng(3)
    clicked = random.random(400) < 0.4
    chance = {name: 1 / (1 + np.exp(-(slope * (2 * clicked - 1) + random.normal(0, 1, 400)))) for name, slope in slopes.items()}  # fmt: skip  # noqa: E501
    frame = pl.DataFrame(
        {"impression_id": [f"i{n:03}" for n in range(400)], "item_id": "a", "label": clicked * 1.0, **chance}
    )
    return impression_values(frame, [*slopes], probabilities={name: name for name in slopes})


def test_impressions_of_one_candidate_are_promoted_by_pooled_auc_and_log_loss() -> None:
    better = _decide(_single(challenger=1.5, champion=0.5), Promotion())
    assert (better.promote, better.metric, better.impressions) == (True, "pooled_auc", 400)
    assert better.difference.low > 0
    assert better.reasons[1].startswith("The challenger's pooled AUC differs from the champion's by +0.")
    assert "Its log loss is" in better.reasons[3]
    worse = _decide(_single(challenger=0.5, champion=1.5), Promotion())
    assert not worse.promote
    # The same order with exaggerated probabilities: AUC is equal, log loss is not.
    same = _single(challenger=1.0, champion=1.0)
    exaggerated = pl.col("log_loss") + pl.when(pl.col("scorer") == "challenger").then(0.1).otherwise(0.0)
    assert not _decide(same.with_columns(exaggerated), Promotion(margin=0.05)).promote


def test_the_first_challenger_on_single_candidates_must_beat_the_best_baseline() -> None:
    slopes = {"random": 0.0, "popularity": 0.8, "recency": 0.0}
    assert _decide(_single(challenger=1.5, **slopes), Promotion(), champion=None).promote
    refused = _decide(_single(challenger=0.2, **slopes), Promotion(), champion=None)
    assert (refused.promote, refused.against) == (False, "popularity")
