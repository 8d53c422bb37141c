"""The search for a ranker's settings: Optuna's TPE on time-ordered folds.

A fold fits a ranker, as `run` does, on the slices of the window before a slice and evaluates it on that slice. The
first trial is the present settings; the others are chosen by what was seen before them (Bergstra et al., NeurIPS
2011). The best of many trials is evaluated on the folds that chose it: its gain is an upper estimate.
"""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from features.config.project import Project
from features.errors import ModelError
from features.ranking_dataset import feature_columns
from models.evaluation.metrics import POOLED_AUC, has_lists, per_impression, pooled_auc
from models.ranker import fit
from models.ranker.folds import Fold, folds

SETTINGS = ("learning_rate", "num_leaves", "min_data_in_leaf", "feature_fraction", "lambda_l2")
"""Keys of `[ranker]` that are searched."""


class Trial(NamedTuple):
    """Settings and how they did."""

    number: int
    """0 are the present settings."""
    settings: Mapping[str, Any]
    values: tuple[float, ...]
    """Mean of the promotion metric over each fold's held-out lists, oldest fold first."""
    seconds: float

    @property
    def value(self) -> float:
        """Mean over the folds."""
        return float(np.mean(self.values))


class Tuning(NamedTuple):
    """Every trial, in order; the first is the present settings."""

    metric: str
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The trial of the highest value; of equals the earliest."""
        return max(self.trials, key=lambda trial: trial.value)

    def gain(self) -> tuple[float, float, float]:
        """The best trial's gain over the present settings: mean, least and greatest over the folds."""
        gains = np.subtract(self.best.values, self.trials[0].values)
        return float(gains.mean()), float(gains.min()), float(gains.max())


def tune(
    dataset: pl.DataFrame,
    project: Project,
    trials: int,
    count: int,
    seconds: float | None = None,
    tried: Callable[[Trial], None] = lambda trial: None,
) -> Tuning:
    """Evaluate the present settings and `trials` others on `count` folds of a ranking dataset.

    Begins no trial after `seconds`. The same dataset and seed try the same settings. Raises ModelError for
    fewer than two slices, and as `ranker.fit` does.
    """
    import optuna

    slices = dataset["slice"].n_unique()
    if slices < 2:
        raise ModelError(
            f"{slices} slices have a ranking dataset; tuning fits on some and evaluates on later ones: run more first"
        )
    held_out = folds(dataset, count)
    found: list[Trial] = []

    def objective(trial: Any) -> float:
        began = monotonic()
        settings = _suggested(trial)
        values = tuple(_value_of_fold(dataset, fold, project, settings) for fold in held_out)
        found.append(Trial(trial.number, settings, values, monotonic() - began))
        tried(found[-1])
        return found[-1].value

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=abs(project.seed))
    )
    study.enqueue_trial({name: getattr(project.ranker, name) for name in SETTINGS})
    study.optimize(objective, n_trials=trials + 1, timeout=seconds)
    return Tuning(tuning_metric(dataset, project), tuple(found))


def tuning_metric(dataset: pl.DataFrame, project: Project) -> str:
    """The metric that promotes: `promotion.metric`, or pooled AUC where impressions hold one candidate."""
    return project.promotion.metric if has_lists(dataset) else POOLED_AUC


def _suggested(trial: Any) -> dict[str, Any]:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 3, 63, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 5, 500, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.1, 1.0),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.0, 20.0),
    }


def _value_of_fold(dataset: pl.DataFrame, fold: Fold, project: Project, settings: Mapping[str, Any]) -> float:
    earlier, later = dataset.filter(fold.fit), dataset.filter(fold.held_out)
    window = earlier["slice"].unique().sort().tail(project.ranker.window)
    config = project.ranker.model_copy(update=dict(settings))
    ranker = fit(
        earlier.filter(pl.col("slice").is_in(window.implode())),
        feature_columns(dataset),
        config,
        project.labels,
        project.seed,
    )
    scored = later.with_columns(score=ranker.score(later))
    metric = tuning_metric(dataset, project)
    mean = pooled_auc(scored) if metric == POOLED_AUC else per_impression(scored)[metric].mean()
    if not isinstance(mean, float):
        raise ModelError(
            f"no list of slice {later['slice'][0]} has a click to find: hold out fewer slices (--folds)"
        )
    return mean
