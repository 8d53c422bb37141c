"""The fit of a ranker by several workers, each with the lists of its own users.

The workers grow one booster together: LightGBM adds up their histograms at every split (`tree_learner=data`),
so that all hold the same trees, and no row leaves its worker. An impression is whole on one worker, for the pairs
that LambdaRank learns from are found inside it: impressions cut in two cost quality, and nobody would be warned.

What differs from the fit in one process (`fitting.py`):

- One stretch is held out for the number of rounds, the window's end. Every worker watches all its lists: with lists
  of its own each would stop at a round of its own, and wait for the others for ever. More folds would cost a fit
  each; they are there because a small slice's curve is noisy, and a window that needs several workers has no
  small slices.
- Bins are cut for some columns by each worker, from its own rows.
- Position propensities come from the counts of all workers, put together. Offsets that LightGBM learns itself
  (`position_bias = "learned"`) would be each worker's own, and are refused.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from zlib import crc32

import polars as pl

from features.buckets import bucket
from features.config import sections
from features.errors import ModelError
from models.evaluation.metrics import has_lists
from models.ranker.calibration import calibrate
from models.ranker.fitted import Ranker
from models.ranker.input import label_levels, matrix
from models.ranker.lightgbm_parameters import parameters_of
from models.ranker.objective import LAMBDARANK, Objective, choose_objective
from models.ranker.propensity import estimated, places
from models.ranker.sockets import Workers, connected
from models.ranker.training import (
    LEARNT,
    ROW,
    Training,
    best_round,
    constraints,
    learnt,
    ordered,
    validated,
)
from models.ranking import require


class Shard(NamedTuple):
    """What one worker fits on."""

    rows: pl.DataFrame
    """All candidates of the users whose bucket, of as many as there are workers, is this worker's rank."""
    held_out: pl.DataFrame
    """The lists that the number of rounds and the calibration are found on, of all users: equal on every worker."""
    since: datetime
    """The first instant held out: boosters that are evaluated on `held_out` learn from rows before it."""


def fit_shard(
    shard: Shard,
    columns: Sequence[str],
    config: sections.Ranker,
    labels: sections.Labels,
    seed: int,
    workers: Workers,
    meeting: str = "127.0.0.1",
) -> Ranker:
    """The ranker of all workers' rows, the same on each; every worker calls this with its own shard.

    Rows are as `ranker.fit` takes them, with `user_id` and `as_of`; `meeting` is an address that every worker
    reaches. Raises as `ranker.fit` does; ModelError, too, for a user of another worker, for a worker without lists
    to learn from, and for `position_bias = "learned"`; ConnectionError where a worker is lost.
    """
    refuse_learned(config)
    require(shard.rows, ("user_id", "as_of"), "a ranker fitted by several workers")
    rows, watched = ordered(shard.rows), ordered(shard.held_out)
    _refuse_strangers(rows, workers)
    objective = _common_objective(rows, watched, workers)
    usable, evaluated = (
        (rows, watched) if objective.is_pointwise else (rows.filter(LEARNT), watched.filter(LEARNT))
    )
    early = usable.select((pl.col("as_of") < shard.since).arg_true()).to_series().to_numpy()
    info = _counted(usable, early.size, evaluated, workers)
    levels = label_levels(usable["label"], labels)
    positioned = config.position_bias != "none" and not objective.is_pointwise
    shown = estimated(pl.concat(workers.gather(places(rows)))) if positioned else None
    with connected(workers, meeting) as network:
        parameters = parameters_of(config, levels, seed, objective) | network
        parameters |= constraints(config, shard.rows, columns)
        training = Training(shard.rows[usable[ROW]], columns, levels, parameters, shown)
        grown, curve = _search(training, early, shard.held_out[evaluated[ROW]], config, objective.metric)
        rounds = best_round(curve, objective)
        boosters = training.fit(rounds, config.seeds, None)
    info |= {"best_iteration": rounds, **validated(curve, objective), "folds": 1}
    scores = grown.predict(
        matrix(shard.held_out[watched[ROW]], columns), num_iteration=rounds, raw_score=True
    )
    calibration = calibrate(scores, (watched["label"] > 0).to_numpy())
    return Ranker(tuple(boosters), tuple(columns), info | learnt(boosters, columns, shown), calibration)


def _common_objective(rows: pl.DataFrame, watched: pl.DataFrame, workers: Workers) -> Objective:
    """The objective that all workers' rows together ask for, the same on each."""
    labels = set().union(*workers.gather(rows["label"].unique().to_list()), watched["label"].unique())
    if any(workers.gather(has_lists(rows) or has_lists(watched))):
        return LAMBDARANK
    every = pl.DataFrame({"label": sorted(labels)}, schema={"label": pl.Float64})
    return choose_objective(every.with_row_index("impression_id"))


def refuse_learned(config: sections.Ranker) -> None:
    """Raise ModelError for the one setting that several workers cannot follow together."""
    if config.position_bias == "learned":
        raise ModelError(
            'ranker.position_bias is "learned", and the offsets that LightGBM learns are not added up over workers: '
            'set it to "propensity" or "none", or scale.rankers to 1'
        )


def _refuse_strangers(rows: pl.DataFrame, workers: Workers) -> None:
    strangers = rows.filter(bucket(rows["user_id"], workers.size) != workers.rank)
    users = rows.group_by("impression_id").agg(pl.col("user_id").n_unique())
    shared = users.filter(pl.col("user_id") > 1)
    if strangers.height or shared.height:
        first = (strangers if strangers.height else shared)["impression_id"][0]
        raise ModelError(
            f"worker {workers.rank} of {workers.size} was given {strangers.height} candidates of other workers' "
            f"users and {shared.height} lists of several users, the first {first!r}: lists must be whole on one "
            "worker; cut the rows by features.buckets.bucket(user_id, workers)"
        )


def _counted(usable: pl.DataFrame, early: int, evaluated: pl.DataFrame, workers: Workers) -> dict[str, Any]:
    """What all workers together learn from. ModelError, on all alike, where one has nothing to learn from."""
    mine = (
        usable.height,
        early,
        usable["impression_id"].n_unique(),
        usable["slice"].unique().to_list(),
        crc32("\n".join(evaluated["impression_id"]).encode()),
    )
    rows, earlier, impressions, slices, watched = zip(*workers.gather(mine), strict=True)
    if not all(earlier) or evaluated.is_empty():
        raise ModelError(
            f"of {workers.size} workers, {sum(not count for count in earlier)} have no list with a better and a worse "
            f"candidate before the stretch held out, which has {evaluated.height} such candidates: fit with fewer "
            "workers (scale.rankers) or a longer ranker.window"
        )
    if len(set(watched)) > 1:
        raise ModelError("the workers were given different lists to hold out: give each all of them")
    return {
        "rows": sum(rows),
        "impressions": sum(impressions),
        "slices": sorted(set().union(*slices)),
        "workers": workers.size,
    }


def _search(
    training: Training, early: Any, held_out: pl.DataFrame, config: sections.Ranker, metric: str
) -> tuple[Any, list[float]]:
    """A booster grown on the earlier rows, and its `metric` on the impressions held out after each round."""
    import lightgbm

    evaluated: dict[str, Any] = {}
    booster = lightgbm.train(
        dict(training.parameters),
        training.part(early),
        config.num_iterations,
        valid_sets=[training.watch(held_out)],
        valid_names=["held out"],
        callbacks=[
            lightgbm.early_stopping(config.early_stopping_round, verbose=False),
            lightgbm.record_evaluation(evaluated),
        ],
    )
    return booster, evaluated["held out"][metric]
