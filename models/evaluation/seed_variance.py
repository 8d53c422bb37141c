"""The gain from text, and the variance of metrics over seeds: one evaluation per seed, on the same impressions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from features.config.sections import Promotion
from models.evaluation.evaluate import EvaluationResult, difference

GAIN = "full - behaviour_only"
"""Name, among the scorers, of the gain from text."""


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
        for metric in result.metrics.paired
    }


def seed_variance(results: Sequence[EvaluationResult]) -> dict[str, dict[str, dict[str, Any]]]:
    """Scorer (and `GAIN`) → metric → `mean`, standard `deviation` and `values` over seeds.

    Results have `full` and `behaviour_only`. Mean and deviation are None if a seed evaluated nothing; the deviation is
    None for a single seed.
    """
    scorers, metrics = [result.as_json()["scorers"] for result in results], results[0].metrics.paired
    values = {
        scorer: {metric: [by_seed[scorer][metric]["mean"] for by_seed in scorers] for metric in metrics}
        for scorer in scorers[0]
    }
    values[GAIN] = {
        metric: [
            None if full is None or without is None else full - without
            for full, without in zip(values["full"][metric], values["behaviour_only"][metric], strict=True)
        ]
        for metric in metrics
    }
    return {
        scorer: {metric: _over_seeds(by_seed) for metric, by_seed in by_metric.items()}
        for scorer, by_metric in values.items()
    }


def _over_seeds(values: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    complete = len(known) == len(values)
    return {
        "mean": float(np.mean(known)) if complete else None,
        "deviation": float(np.std(known, ddof=1)) if complete and len(known) > 1 else None,
        "values": list(values),
    }
