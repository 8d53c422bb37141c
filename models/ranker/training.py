"""The fit of a ranker in one process.

`fit` has three steps:

1. Number of iterations. Each of the last `ranker.folds` slices is held out in turn from a booster that is fitted on the
   slices before it (a dataset of one slice holds out its last fifth of impressions). The boosters, each with its own
   seed, grow side by side until the mean of their nDCG@10 curves has not improved for `ranker.early_stopping_round`
   iterations; the best iteration counts. A single slice's curve is noisy: with four seeds on the same week its best
   iteration ranged from 35 to 150.
2. Calibration. The scores of those boosters on their held-out impressions, and the clicks there, give the map from
   scores to click probabilities (`models/ranker/calibration.py`).
3. Boosters. `ranker.seeds` boosters are fitted on all rows for that many iterations: the newest slice is most like the
   next one and must not be used for early stopping only. A score is the mean over the boosters.

If every impression has one candidate there are no pairs: a pointwise objective (`objective.py`) learns from all rows,
its own loss replaces nDCG@10, and position is ignored.

Columns are binned once for all of these fits, on the features of every row and no label.

Position enters training only. LambdaRank models the odds that one candidate of a pair is clicked and the other is not.
While clicks are rare these are examined[i]·r[i] to examined[j]·r[j], so the logarithm of a position's propensity is an
offset to the score. `position_bias = "propensity"` estimates these offsets from the log
(`models/ranker/propensity.py`); "learned" lets LightGBM learn its own. Scoring does not use position.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from features.config import sections
from features.ranking_dataset import feature_columns
from models.evaluation.metrics import MetricSet
from models.ranker.calibration import calibrate
from models.ranker.fitted import Ranker
from models.ranker.folds import Fold, folds
from models.ranker.input import feature_names, label_levels, matrix, refuse_leaks
from models.ranker.lightgbm_parameters import directions, parameters_of, seeds_of
from models.ranker.objective import REGRESSION, Objective, choose_objective
from models.ranker.propensity import propensities
from models.ranking import require

Progress = Callable[[dict[str, Any]], None]
"""Called with `{"stage": "search" | "fit", "round", "rounds"}` after each iteration, plus "ndcg@10" in a search."""

_KEYS = ("slice", "impression_id", "item_id")
_COLUMNS = (*_KEYS, "position", "label")
ROW = "__row"
"""Column of `sorted_rows`: the row's number in the dataset."""
_BINNING = ("num_threads", "verbosity", "force_row_wise", "max_bin", "feature_pre_filter", "pre_partition")
HAS_PAIRS = (pl.col("label").max() != pl.col("label").min()).over("impression_id")
"""Rows of impressions with a better and a worse candidate: other impressions have no pair to learn from."""


def fit(
    dataset: pl.DataFrame,
    columns: Sequence[str],
    config: sections.Ranker,
    labels: sections.Labels,
    seed: int,
    *,
    progress: Progress | None = None,
) -> Ranker:
    """Fit on `columns` of `dataset`, which has one row per candidate: `slice, impression_id, item_id, position, label`.

    Features are numeric (null or NaN is missing). Impressions whose candidates have equal labels are left out of the
    boosters, but not of the calibration. A dataset of one slice needs `as_of`. The same dataset, in any row order, and
    seed give the same model. Raises TableError for missing key columns, ModelError for features that are missing or not
    numeric, a monotone pattern without a column, labels that are no declared gain, fewer than two impressions to learn
    from, or an interest score from a version fitted on the row's slice or a later one (`interest_slice`).
    """
    rows = sorted_rows(dataset)
    objective = choose_objective(MetricSet.of(rows), rows["label"].unique())
    pointwise = objective.is_pointwise
    usable = rows if pointwise else rows.filter(HAS_PAIRS)
    levels = label_levels(usable["label"], labels)
    splits = folds(usable, config.folds)
    position_propensities = propensities(rows) if config.position_bias != "none" and not pointwise else None
    parameters = parameters_of(config, levels, seed, objective) | constraints(config, dataset, columns)
    learned = config.position_bias == "learned" and not pointwise
    training = Training(dataset[usable[ROW]], columns, levels, parameters, position_propensities, learned)
    fold_boosters, curve = training.search(splits, config, objective.metric, progress)
    rounds = best_iteration(curve, objective)
    boosters = training.fit(rounds, config.seeds, progress)
    info = {
        "best_iteration": rounds,
        **validation_info(curve, objective),
        "folds": len(splits),
        "rows": usable.height,
        "impressions": usable["impression_id"].n_unique(),
        "slices": usable["slice"].unique().sort().to_list(),
        **booster_info(boosters, columns, position_propensities),
    }
    held_out = [rows.filter(fold.held_out) for fold in splits]
    scores = [
        booster.predict(matrix(dataset[part[ROW]], columns), num_iteration=rounds, raw_score=True)
        for booster, part in zip(fold_boosters, held_out, strict=True)
    ]
    clicked = pl.concat([part["label"] for part in held_out]) > 0
    calibration = calibrate(np.concatenate(scores), clicked.to_numpy())
    return Ranker(tuple(boosters), tuple(columns), info, calibration)


def sorted_rows(dataset: pl.DataFrame) -> pl.DataFrame:
    """The key columns of `dataset` and each row's number (ROW), sorted so that fits are reproducible to the bit.

    Features are not copied, to save memory. Raises TableError or ModelError as `fit` does.
    """
    require(dataset, _COLUMNS, "the ranker")
    refuse_leaks(dataset)
    names = [*_COLUMNS, *(name for name in ("as_of", "user_id") if name in dataset.columns)]
    return dataset.select(names).with_row_index(ROW).sort(_KEYS)


def constraints(config: sections.Ranker, dataset: pl.DataFrame, columns: Sequence[str]) -> dict[str, Any]:
    """LightGBM's parameters for `ranker.monotone`; empty without constraints on these columns."""
    signs = directions(config.monotone, feature_columns(dataset), columns)
    return {"monotone_constraints": signs} if any(signs) else {}


def best_iteration(curve: Sequence[float], objective: Objective) -> int:
    """The iteration with the best validation metric, from 1."""
    return int((np.argmax if objective.higher_is_better else np.argmin)(curve)) + 1


def validation_info(curve: Sequence[float], objective: Objective) -> dict[str, Any]:
    """The entries of `Ranker.info` on the objective and its best validation metric."""
    best = float(curve[best_iteration(curve, objective) - 1])
    return {"objective": objective.name, "validation_metric": objective.metric, "validation": best}


def booster_info(
    boosters: Sequence[Any], columns: Sequence[str], position_propensities: pl.DataFrame | None
) -> dict[str, Any]:
    """The entries of `Ranker.info` on the boosters: `importance` and, if estimated, `propensities`."""
    gains = np.mean([booster.feature_importance(importance_type="gain") for booster in boosters], axis=0)
    info: dict[str, Any] = {
        "importance": {column: float(gain) for column, gain in zip(columns, gains, strict=True)}
    }
    if position_propensities is not None:
        info["propensities"] = {str(position): value for position, value in position_propensities.iter_rows()}
    return info


class Training:
    """A dataset in LightGBM's form, binned once, with its position offsets."""

    def __init__(
        self,
        rows: pl.DataFrame,
        columns: Sequence[str],
        levels: Sequence[float],
        parameters: Mapping[str, Any],
        position_propensities: pl.DataFrame | None,
        learned: bool = False,
    ) -> None:
        self.rows, self.columns, self.levels = rows.select(_COLUMNS), columns, levels
        self.parameters, self.learned = parameters, learned
        self.propensities = position_propensities
        self.offset = self._offset(rows["position"])
        self.data = self._dataset(rows).construct()

    def validation_set(self, rows: pl.DataFrame) -> Any:
        """Other rows in the same bins, for LightGBM to validate on."""
        return self._dataset(rows, reference=self.data, init_score=self._offset(rows["position"]))

    def subset(self, rows: Any) -> Any:
        """The rows with these numbers; impressions must be whole."""
        data = self.data.subset(rows).construct()
        self._add_position(data, rows, self.learned)
        return data

    def search(
        self, splits: Sequence[Fold], config: sections.Ranker, metric: str, progress: Progress | None
    ) -> tuple[Sequence[Any], Sequence[float]]:
        """One booster per fold, grown side by side, and the mean of their `metric` after each iteration."""
        import lightgbm

        seeds = iter(seeds_of(self.parameters["seed"], len(splits)))
        rows = [
            tuple(self.rows.select(part.arg_true()).to_series().to_numpy() for part in fold)
            for fold in splits
        ]
        fold_rows = iter(rows)

        def prepare(train: Any, valid: Any, parameters: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
            train_rows, valid_rows = next(fold_rows)
            self._add_position(train.construct(), train_rows, self.learned)
            self._add_position(valid.construct(), valid_rows, learned=False)
            return train, valid, {**parameters, "seed": next(seeds)}

        result = lightgbm.cv(
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
        return result["cvbooster"].boosters, result[f"valid {metric}-mean"]

    def fit(self, rounds: int, seeds: int, progress: Progress | None) -> list[Any]:
        """Fit one booster per seed on all rows."""
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
        is_regression = self.parameters["objective"] == REGRESSION.name
        return lightgbm.Dataset(
            matrix(rows, self.columns),
            label=rows["label"].to_numpy()
            if is_regression
            else np.searchsorted(self.levels, rows["label"].to_numpy()),
            group=sizes.to_numpy(),
            feature_name=feature_names(self.columns),
            params={key: self.parameters[key] for key in _BINNING if key in self.parameters},
            **more,
        )

    def _add_position(self, data: Any, rows: Any, learned: bool) -> None:
        if learned:
            data.set_field("position", self.rows["position"].cast(pl.Int32).to_numpy()[rows])
        elif self.offset is not None:
            data.set_field("init_score", self.offset[rows])

    def _offset(self, position: pl.Series) -> Any:
        """The score offset of each row's position; None without propensities."""
        if self.propensities is None:
            return None
        logarithms = self.propensities["propensity"].log()
        return position.replace_strict(self.propensities["position"], logarithms).to_numpy()


def _report(stage: str, progress: Progress) -> Callable[[Any], None]:
    def report(state: Any) -> None:
        step = {"stage": stage, "round": state.iteration + 1, "rounds": state.end_iteration}
        scores = {entry[1]: entry[2] for entry in state.evaluation_result_list or ()}
        progress({**step, **scores})

    return report
