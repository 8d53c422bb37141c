"""What text adds, and how much a figure varies with the seed: one judgement per seed, on the same impressions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from features.config.sections import Promotion
from models.evaluation.evaluate import EvaluationResult, difference

GAIN = "full - behaviour_only"
"""Name, among the scorers, of what text adds to behaviour."""


def gain(result: EvaluationResult, promotion: Promotion, seed: int) -> dict[str, dict[str, float]]:
    """Metric → mean of (`full` − `behaviour_only`) and its paired interval over impressions."""
    return {
        metric: difference(
            result.values,
            "full",
            "behaviour_only",
            metric,
            seed=seed,
            resamples=promotion.resamples,
            confidence=promotion.confidence,
        )._asdict()
        for metric in result.metrics
    }


def seed_variance(results: Sequence[EvaluationResult]) -> dict[str, dict[str, dict[str, Any]]]:
    """Scorer (and `GAIN`) → metric → `mean` over seeds, standard `deviation`, and the `values` of each seed.

    Results hold `full` and `behaviour_only`. Mean and deviation are None where a seed evaluated nothing, and
    the deviation of a single seed is.
    """
    found, metrics = [result.as_json()["scorers"] for result in results], results[0].metrics
    values = {
        scorer: {metric: [one[scorer][metric]["mean"] for one in found] for metric in metrics}
        for scorer in found[0]
    }
    values[GAIN] = {
        metric: [
            None if full is None or without is None else full - without
            for full, without in zip(values["full"][metric], values["behaviour_only"][metric], strict=True)
        ]
        for metric in metrics
    }
    return {
        scorer: {metric: _over_seeds(each) for metric, each in measured.items()}
        for scorer, measured in values.items()
    }


def _over_seeds(values: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    complete = len(known) == len(values)
    return {
        "mean": float(np.mean(known)) if complete else None,
        "deviation": float(np.std(known, ddof=1)) if complete and len(known) > 1 else None,
        "values": list(values),
    }
