"""The fit of a ranker in one process.

Protocol of `fit`:

1. The number of rounds. Each of the dataset's last `ranker.folds` slices is held out in turn from boosters that
   are fitted on the slices before it (a dataset of one slice holds out its last fifth of impressions). They
   grow side by side, each with a seed of its own, until the mean of their nDCG@10 curves has not risen for
   `ranker.early_stopping_round` rounds; its best round counts. One slice's curve alone is noisy: between four
   seeds on the same week its best round went from 35 to 150.
2. The calibration. What those boosters say at that round about the lists held out from them, with what was
   clicked there, gives the map from scores to click probabilities (`models/ranker/calibration.py`).
3. The boosters. `ranker.seeds` of them are fitted on everything with that many rounds: the newest slice is the
   one most like the next, and must not be spent on a stopping rule alone. A score is the mean of theirs.

Where every impression holds one candidate there are no pairs: a pointwise objective (`objective.py`) learns from all
rows, its own loss on the held-out slices replaces nDCG@10, and position, of which there is one, plays no part.

Columns are cut into bins once for all of these fits, on every row's features and no label.

Position enters the training only. LambdaRank models the odds that one candidate of a pair is taken and not the
other; while clicks are rare these are examined[i]·r[i] to examined[j]·r[j], so the logarithm of a position's
propensity is an offset beside the score. `position_bias = "propensity"` gives these offsets, estimated from the
log (`models/ranker/propensity.py`), and "learned" lets LightGBM learn its own. It is no feature; scoring neither needs
nor sees it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from features.config import sections
from features.ranking_dataset import feature_columns
from models.ranker.calibration import calibrate
from models.ranker.fitted import Ranker
from models.ranker.folds import Fold, folds
from models.ranker.input import label_levels, matrix, plain, refuse_leaks
from models.ranker.lightgbm_parameters import directions, parameters_of, seeds_of, threads
from models.ranker.objective import REGRESSION, Objective, choose_objective
from models.ranker.propensity import propensities
from models.ranking import require

Progress = Callable[[dict[str, Any]], None]
"""Receives `{"stage": "search" | "fit", "round", "rounds"}` after each round, with "ndcg@10" in a search."""

_KEYS = ("slice", "impression_id", "item_id")
_FACTS = (*_KEYS, "position", "label")
ROW = "__row"
"""Column of `ordered`: the row's number in the dataset."""
_BINNING = ("num_threads", "verbosity", "force_row_wise", "max_bin", "feature_pre_filter", "pre_partition")
LEARNT = (pl.col("label").max() != pl.col("label").min()).over("impression_id")
"""Rows of impressions with a better and a worse candidate: the others hold no pair to learn from."""


def fit(
    dataset: pl.DataFrame,
    columns: Sequence[str],
    config: sections.Ranker,
    labels: sections.Labels,
    seed: int,
    *,
    progress: Progress | None = None,
    at_once: int = 1,
) -> Ranker:
    """Fit on `columns` of `dataset`: a row a candidate with `slice, impression_id, item_id, position, label`.

    Feature columns are numeric (null or NaN is missing). Impressions whose candidates all have one label hold
    no pair to learn from: they are left out of the boosters, not of the calibration. With one slice, `as_of`
    tells which impressions are last. `at_once`: fits that share this machine's cores. The same dataset, in any
    row order, and seed give the same model. Raises TableError for missing key columns, ModelError for features
    that are missing or not numeric, a monotone pattern without a column, labels that are no declared gain, fewer
    than two impressions to learn from, or an interest score from a version that saw the row's slice
    (`interest_slice`).
    """
    rows = ordered(dataset)
    objective = choose_objective(rows)
    pointwise = objective.is_pointwise
    usable = rows if pointwise else rows.filter(LEARNT)
    levels = label_levels(usable["label"], labels)
    held_out = folds(usable, config.folds)
    places = propensities(rows) if config.position_bias != "none" and not pointwise else None
    parameters = parameters_of(config, levels, seed, objective) | constraints(config, dataset, columns)
    parameters["num_threads"] = threads(at_once)
    learned = config.position_bias == "learned" and not pointwise
    training = Training(dataset[usable[ROW]], columns, levels, parameters, places, learned)
    grown, curve = training.search(held_out, config, objective.metric, progress)
    rounds = best_round(curve, objective)
    boosters = training.fit(rounds, config.seeds, progress)
    info = {
        "best_iteration": rounds,
        **validated(curve, objective),
        "folds": len(held_out),
        "rows": usable.height,
        "impressions": usable["impression_id"].n_unique(),
        "slices": usable["slice"].unique().sort().to_list(),
        **learnt(boosters, columns, places),
    }
    unseen = [rows.filter(fold.held_out) for fold in held_out]
    scores = [
        booster.predict(matrix(dataset[lists[ROW]], columns), num_iteration=rounds, raw_score=True)
        for booster, lists in zip(grown, unseen, strict=True)
    ]
    clicked = pl.concat([lists["label"] for lists in unseen]) > 0
    calibration = calibrate(np.concatenate(scores), clicked.to_numpy())
    return Ranker(tuple(boosters), tuple(columns), info, calibration)


def ordered(dataset: pl.DataFrame) -> pl.DataFrame:
    """Where each row stands in `dataset` (ROW), and what it is, in the one order in which fits agree to the bit.

    Features stay where they are: copies of them are what fills the memory. Raises TableError or ModelError as
    `fit` does.
    """
    require(dataset, _FACTS, "the ranker")
    refuse_leaks(dataset)
    facts = [*_FACTS, *(name for name in ("as_of", "user_id") if name in dataset.columns)]
    return dataset.select(facts).with_row_index(ROW).sort(_KEYS)


def constraints(config: sections.Ranker, dataset: pl.DataFrame, columns: Sequence[str]) -> dict[str, Any]:
    """What `ranker.monotone` says of the columns; empty where it says nothing."""
    ways = directions(config.monotone, feature_columns(dataset), columns)
    return {"monotone_constraints": ways} if any(ways) else {}


def best_round(curve: Sequence[float], objective: Objective) -> int:
    """The number of rounds after which the validation metric was best, from 1."""
    return int((np.argmax if objective.higher_is_better else np.argmin)(curve)) + 1


def validated(curve: Sequence[float], objective: Objective) -> dict[str, Any]:
    """What `Ranker.info` says of the objective and its best validation."""
    best = float(curve[best_round(curve, objective) - 1])
    return {"objective": objective.name, "validation_metric": objective.metric, "validation": best}


def learnt(boosters: Sequence[Any], columns: Sequence[str], places: pl.DataFrame | None) -> dict[str, Any]:
    """What `Ranker.info` says of the boosters: `importance` and, where they were estimated, `propensities`."""
    gains = np.mean([booster.feature_importance(importance_type="gain") for booster in boosters], axis=0)
    info: dict[str, Any] = {
        "importance": {column: float(gain) for column, gain in zip(columns, gains, strict=True)}
    }
    if places is not None:
        info["propensities"] = {str(place): value for place, value in places.iter_rows()}
    return info


class Training:
    """Rows in the form that LightGBM learns from, binned once, and what position adds to them."""

    def __init__(
        self,
        rows: pl.DataFrame,
        columns: Sequence[str],
        levels: Sequence[float],
        parameters: Mapping[str, Any],
        places: pl.DataFrame | None,
        learned: bool = False,
    ) -> None:
        self.rows, self.columns, self.levels = rows.select(_FACTS), columns, levels
        self.parameters, self.places, self.learned = parameters, places, learned
        self.offset = None if places is None else _offset(rows["position"], places)
        self.data = self._dataset(rows).construct()

    def watch(self, rows: pl.DataFrame) -> Any:
        """Other rows, which LightGBM is to evaluate itself by: in the same bins."""
        return self._dataset(
            rows,
            reference=self.data,
            init_score=None if self.places is None else _offset(rows["position"], self.places),
        )

    def part(self, rows: Any) -> Any:
        """Some of the rows, by place, whole impressions each."""
        data = self.data.subset(rows).construct()
        self._add_position(data, rows, self.learned)
        return data

    def search(
        self, held_out: Sequence[Fold], config: sections.Ranker, metric: str, progress: Progress | None
    ) -> tuple[Sequence[Any], Sequence[float]]:
        """One booster a fold, grown side by side, and the mean of their `metric` after each round."""
        import lightgbm

        seeds = iter(seeds_of(self.parameters["seed"], len(held_out)))
        rows = [
            tuple(self.rows.select(part.arg_true()).to_series().to_numpy() for part in fold)
            for fold in held_out
        ]
        taken = iter(rows)

        def prepare(fitted: Any, watched: Any, parameters: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
            fitted_rows, watched_rows = next(taken)
            self._add_position(fitted.construct(), fitted_rows, self.learned)
            self._add_position(watched.construct(), watched_rows, learned=False)
            return fitted, watched, {**parameters, "seed": next(seeds)}

        found = lightgbm.cv(
            dict(self.parameters),
            self.data,
            config.num_iterations,
            folds=rows,
            fpreproc=prepare,
            callbacks=[
                lightgbm.early_stopping(config.early_stopping_round, verbose=False),
                *([_report("search", progress)] if progress else []),
            ],
            return_cvbooster=True,
        )
        return found["cvbooster"].boosters, found[f"valid {metric}-mean"]

    def fit(self, rounds: int, seeds: int, progress: Progress | None) -> list[Any]:
        """One booster a seed on every row."""
        import lightgbm

        self._add_position(self.data, np.arange(self.rows.height), self.learned)
        train = partial(
            lightgbm.train,
            train_set=self.data,
            num_boost_round=rounds,
            callbacks=[_report("fit", progress)] if progress else [],
        )
        return [train({**self.parameters, "seed": seed}) for seed in seeds_of(self.parameters["seed"], seeds)]

    def _dataset(self, rows: pl.DataFrame, **more: Any) -> Any:
        import lightgbm

        sizes = rows.group_by("slice", "impression_id", maintain_order=True).len()["len"]
        by_grade = self.parameters["objective"] == REGRESSION.name
        return lightgbm.Dataset(
            matrix(rows, self.columns),
            label=rows["label"].to_numpy()
            if by_grade
            else np.searchsorted(self.levels, rows["label"].to_numpy()),
            group=sizes.to_numpy(),
            feature_name=plain(self.columns),
            params={key: self.parameters[key] for key in _BINNING if key in self.parameters},
            **more,
        )

    def _add_position(self, data: Any, rows: Any, learned: bool) -> None:
        if learned:
            data.set_field("position", self.rows["position"].cast(pl.Int32).to_numpy()[rows])
        elif self.offset is not None:
            data.set_field("init_score", self.offset[rows])


def _offset(position: pl.Series, places: pl.DataFrame) -> Any:
    """What each row's position adds to its score."""
    return position.replace_strict(places["position"], places["propensity"].log()).to_numpy()


def _report(stage: str, progress: Progress) -> Callable[[Any], None]:
    def report(state: Any) -> None:
        step = {"stage": stage, "round": state.iteration + 1, "rounds": state.end_iteration}
        scores = {entry[1]: entry[2] for entry in state.evaluation_result_list or ()}
        progress({**step, **scores})

    return report
