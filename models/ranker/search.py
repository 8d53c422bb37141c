"""Hyperparameter search for the ranker: Optuna's TPE (Bergstra et al., NeurIPS 2011) on time-ordered folds.

Each fold fits a ranker on the window before a slice, as `run` does, and evaluates it on that slice. The first trial is
the current settings. The best trial is evaluated on the folds that selected it, so its gain is optimistic.
"""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from features.config.sections import Labels, Promotion
from features.config.sections import Ranker as RankerConfig
from features.errors import ModelError
from features.ranking_dataset import feature_columns
from models.evaluation.metrics import (
    LISTWISE,
    METRICS,
    POOLED_AUC,
    Metric,
    MetricSet,
    per_impression,
    pooled_auc,
)
from models.ranker import fit
from models.ranker.folds import Fold, folds
from models.ranker.lightgbm_parameters import SETTINGS


class Trial(NamedTuple):
    """One trial's settings and metric values."""

    number: int
    """0 is the current settings."""
    settings: Mapping[str, Any]
    values: tuple[float, ...]
    """Mean promotion metric over each fold's held-out impressions, oldest fold first."""
    seconds: float

    @property
    def value(self) -> float:
        """Mean over the folds."""
        return float(np.mean(self.values))


class Tuning(NamedTuple):
    """All trials in order; the first is the current settings."""

    metric: str
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The trial with the highest value; the earliest of equals."""
        return max(self.trials, key=lambda trial: trial.value)

    def gain(self) -> tuple[float, float, float]:
        """The best trial's gain over the current settings: mean, minimum and maximum over the folds."""
        gains = np.subtract(self.best.values, self.trials[0].values)
        return float(gains.mean()), float(gains.min()), float(gains.max())


def tune(
    dataset: pl.DataFrame,
    config: RankerConfig,
    labels: Labels,
    metric: str,
    seed: int,
    trials: int,
    count: int,
    seconds: float | None = None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    metrics: Mapping[str, Metric] = METRICS,
) -> Tuning:
    """Evaluate the current settings and `trials` others on `count` folds of a ranking dataset.

    `metric`: from `tuning_metric`. Starts no trial after `seconds`. The same dataset and seed give the same trials.
    Raises ModelError for fewer than two slices, and the errors of `ranker.fit`.
    """
    import optuna

    slices = dataset["slice"].n_unique()
    if slices < 2:
        raise ModelError(
            f"{slices} slices have a ranking dataset; tuning needs at least 2, to fit on one and evaluate on a "
            "later one: run more slices first"
        )
    held_out = folds(dataset, count)
    completed: list[Trial] = []

    def objective(trial: Any) -> float:
        started = monotonic()
        settings = _suggest(trial)
        values = tuple(
            _value_of_fold(dataset, fold, config.model_copy(update=settings), labels, metric, seed, metrics)
            for fold in held_out
        )
        completed.append(Trial(trial.number, settings, values, monotonic() - started))
        on_trial(completed[-1])
        return completed[-1].value

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=abs(seed)))
    study.enqueue_trial({name: getattr(config, name) for name in SETTINGS})
    study.optimize(objective, n_trials=trials + 1, timeout=seconds)
    return Tuning(metric, tuple(completed))


def tuning_metric(dataset: pl.DataFrame, promotion: Promotion) -> str:
    """`promotion.metric`, or pooled AUC if impressions have one candidate each."""
    metrics = MetricSet.of(dataset)
    return promotion.metric if metrics == LISTWISE else metrics.headline


def _suggest(trial: Any) -> dict[str, Any]:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 3, 63, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 5, 500, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.1, 1.0),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.0, 20.0),
    }


def _value_of_fold(
    dataset: pl.DataFrame,
    fold: Fold,
    config: RankerConfig,
    labels: Labels,
    metric: str,
    seed: int,
    metrics: Mapping[str, Metric],
) -> float:
    earlier, later = dataset.filter(fold.fit), dataset.filter(fold.held_out)
    window = earlier["slice"].unique().sort().tail(config.window)
    ranker = fit(
        earlier.filter(pl.col("slice").is_in(window.implode())),
        feature_columns(dataset),
        config,
        labels,
        seed,
    )
    scored = later.with_columns(score=ranker.score(later))
    mean: Any
    if metric == POOLED_AUC:
        mean = pooled_auc(scored)
    else:
        mean = per_impression(scored, {metric: metrics[metric]})[metric].mean()
    if not isinstance(mean, float):
        raise ModelError(
            f"no impression of slice {later['slice'][0]} has a click to evaluate on: hold out fewer slices (--folds)"
        )
    return mean
