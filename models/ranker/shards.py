"""The fit of a ranker by several workers, each with the impressions of its own users.

The workers grow one booster together: LightGBM sums their histograms at every split (`tree_learner=data`), so all get
the same trees and no row leaves its worker. An impression must be whole on one worker, because LambdaRank forms pairs
inside it; a divided impression would silently cost quality.

Differences from the fit in one process (`boosting.py`):

- One slice is held out for the number of iterations: the last one. Every worker validates on all of its impressions;
  with different ones workers would stop at different iterations and wait for each other for ever. More folds would
  cost a fit each; they exist because a small slice's curve is noisy, and a window for several workers has no small
  slices.
- Each worker computes the bins of some columns, from its own rows.
- Position propensities come from the counts of all workers. LightGBM's learned offsets (`position_bias = "learned"`)
  would differ by worker and are refused.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from features.config import sections
from features.errors import ModelError
from models.evaluation.metrics import LISTWISE, POINTWISE, MetricSet
from models.ranker.boosting import (
    HAS_PAIRS,
    ROW,
    Training,
    best_iteration,
    booster_info,
    constraints,
    sorted_rows,
    validation_info,
)
from models.ranker.calibration import calibrate
from models.ranker.fitted import Ranker
from models.ranker.input import label_levels, matrix
from models.ranker.lightgbm_parameters import parameters_of
from models.ranker.objective import Objective, choose_objective
from models.ranker.propensity import estimate, position_counts
from models.ranker.sockets import connected
from models.ranking import require

if TYPE_CHECKING:
    from models.interest.workers import Workers


class Shard(NamedTuple):
    """The data of one worker."""

    rows: pl.DataFrame
    """All candidates of the users whose bucket, of `workers` buckets, is this worker's rank."""
    held_out: pl.DataFrame
    """Impressions of all users for early stopping and calibration; equal on every worker."""
    since: datetime
    """The first held-out instant: boosters that are validated on `held_out` learn from earlier rows."""


def fit_shard(
    shard: Shard,
    columns: Sequence[str],
    config: sections.Ranker,
    labels: sections.Labels,
    seed: int,
    workers: "Workers",
    coordinator: str = "127.0.0.1",
) -> Ranker:
    """Fit a ranker on all workers' rows; every worker calls this with its own shard and gets the same ranker.

    Rows have the columns of `ranker.fit` and `as_of`; `coordinator` is an address that every worker can reach. Raises
    the errors of `ranker.fit`; ModelError also for a worker without impressions to learn from, and for
    `position_bias = "learned"`; ConnectionError if a worker is lost.
    """
    refuse_learned(config)
    require(shard.rows, ("as_of",), "a ranker fitted by several workers")
    rows, held_out = sorted_rows(shard.rows), sorted_rows(shard.held_out)
    objective = _common_objective(rows, held_out, workers)
    usable, validation = rows, held_out
    if not objective.is_pointwise:
        usable, validation = rows.filter(HAS_PAIRS), held_out.filter(HAS_PAIRS)
    early = usable.select((pl.col("as_of") < shard.since).arg_true()).to_series().to_numpy()
    info = _dataset_info(usable, early.size, validation, workers)
    levels = label_levels(usable["label"], labels)
    positioned = config.position_bias != "none" and not objective.is_pointwise
    counts = workers.gather(position_counts(rows)) if positioned else []
    propensities = estimate(pl.concat(counts)) if positioned else None
    with connected(workers, coordinator) as network:
        parameters = parameters_of(config, levels, seed, objective) | network
        parameters |= constraints(config, shard.rows, columns)
        training = Training(shard.rows[usable[ROW]], columns, levels, parameters, propensities)
        early_booster, curve = _search(
            training, early, shard.held_out[validation[ROW]], config, objective.metric
        )
        rounds = best_iteration(curve, objective)
        boosters = training.fit(rounds, config.seeds, None)
    info |= {"best_iteration": rounds, **validation_info(curve, objective), "folds": 1}
    scores = early_booster.predict(
        matrix(shard.held_out[held_out[ROW]], columns), num_iteration=rounds, raw_score=True
    )
    calibration = calibrate(scores, (held_out["label"] > 0).to_numpy())
    return Ranker(
        tuple(boosters), tuple(columns), info | booster_info(boosters, columns, propensities), calibration
    )


def _common_objective(rows: pl.DataFrame, held_out: pl.DataFrame, workers: "Workers") -> Objective:
    """The objective for all workers' rows, the same on each."""
    labels = set().union(*workers.gather(rows["label"].unique().to_list()), held_out["label"].unique())
    parts = [part for part in (rows, held_out) if part.height]
    kinds = {metrics for each in workers.gather([MetricSet.of(part) for part in parts]) for metrics in each}
    return choose_objective(POINTWISE if kinds == {POINTWISE} else LISTWISE, labels)


def refuse_learned(config: sections.Ranker) -> None:
    """Raise ModelError for `position_bias = "learned"`, which several workers cannot fit together."""
    if config.position_bias == "learned":
        raise ModelError(
            'ranker.position_bias is "learned", but LightGBM does not sum learned offsets over workers: '
            'set it to "propensity" or "none", or scale.rankers to 1'
        )


def _dataset_info(
    usable: pl.DataFrame, early: int, validation: pl.DataFrame, workers: "Workers"
) -> dict[str, Any]:
    """The entries of `Ranker.info` on all workers' rows. Raises ModelError on all if one has nothing to learn from."""
    mine = (
        usable.height,
        early,
        usable["impression_id"].n_unique(),
        usable["slice"].unique().to_list(),
    )
    rows, earlier, impressions, slices = zip(*workers.gather(mine), strict=True)
    if not all(earlier) or validation.is_empty():
        raise ModelError(
            f"{sum(not count for count in earlier)} of {workers.size} workers have no impression with a better and a "
            f"worse candidate before the held-out slice, which has {validation.height} such candidates: fit with fewer "
            "workers (scale.rankers) or a longer ranker.window"
        )
    return {
        "rows": sum(rows),
        "impressions": sum(impressions),
        "slices": sorted(set().union(*slices)),
        "workers": workers.size,
    }


def _search(
    training: Training, early: Any, held_out: pl.DataFrame, config: sections.Ranker, metric: str
) -> tuple[Any, list[float]]:
    """A booster fitted on the earlier rows, and its `metric` on the held-out impressions after each iteration."""
    import lightgbm

    metrics: dict[str, Any] = {}
    booster = lightgbm.train(
        dict(training.parameters),
        training.subset(early),
        config.num_iterations,
        valid_sets=[training.validation_set(held_out)],
        valid_names=["held out"],
        callbacks=[
            lightgbm.early_stopping(config.early_stopping_round, verbose=False),
            lightgbm.record_evaluation(metrics),
        ],
    )
    return booster, metrics["held out"][metric]
