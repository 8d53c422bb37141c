"""The ranker: LightGBM LambdaRank over behavioural features and the interest score.

Protocol of `fit`:

1. The number of rounds. Each of the dataset's last `ranker.folds` slices is held out in turn from boosters that
   are fitted on the slices before it (a dataset of one slice holds out its last fifth of impressions). They
   grow side by side, each with a seed of its own, until the mean of their nDCG@10 curves has not risen for
   `ranker.early_stopping` rounds; its best round counts. One slice's curve alone is noisy: between four
   seeds on the same week its best round went from 35 to 150.
2. The calibration. What those boosters say at that round about the lists held out from them, with what was
   clicked there, gives the map from scores to click probabilities (`models/calibration.py`).
3. The boosters. `ranker.seeds` of them are fitted on everything with that many rounds: the newest slice is the
   one most like the next, and must not be spent on a stopping rule alone. A score is the mean of theirs.

Columns are cut into bins once for all of these fits, on every row's features and no label.

Position enters the training only. LambdaRank models the odds that one candidate of a pair is taken and not the
other; while clicks are rare these are examined[i]·r[i] to examined[j]·r[j], so the logarithm of a position's
propensity is an offset beside the score. `position_bias = "propensity"` gives these offsets, estimated from the
log (`models/propensity.py`), and "learned" lets LightGBM learn its own. It is no feature; scoring neither needs
nor sees it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features import sections
from features.errors import ModelError
from features.ranking_dataset import feature_columns
from models.calibration import Calibration, calibrate, restore
from models.folds import Fold, folds
from models.propensity import propensities
from models.ranker_input import label_levels, matrix, plain, refuse_leaks
from models.ranker_settings import directions, parameters_of, seeds_of
from models.ranking import require

Progress = Callable[[dict[str, Any]], None]
"""Receives `{"stage": "search" | "fit", "round", "rounds"}` after each round, with "ndcg@10" in a search."""

_KEYS = ("slice", "impression_id", "item_id")
_FORMAT = 2
_BOOSTER = "booster-{}.txt"
_DESCRIPTION = "ranker.json"
_BINNING = ("num_threads", "verbosity", "force_row_wise", "max_bin", "feature_pre_filter")


@dataclass(frozen=True)
class Ranker:
    """A fitted ranker: it scores exactly the columns that it was fitted on, found by name."""

    boosters: tuple[Any, ...]
    """lightgbm.Booster, one a seed."""
    columns: tuple[str, ...]
    info: Mapping[str, Any]
    """`best_iteration`, `validation_ndcg@10`, `folds`, `rows`, `impressions`, `slices`, `importance` and, where
    they were estimated, `propensities` by position."""
    calibration: Calibration | None = None

    def score(self, frame: pl.DataFrame) -> pl.Series:
        """`rank_score` of each row of `frame`: Float64, higher is better, comparable inside a list only.

        Raises ModelError, naming them, if fitted columns are missing or not numeric.
        """
        values = self._mean(matrix(frame, self.columns)) if frame.height else []
        return pl.Series("rank_score", values, dtype=pl.Float64)

    def probability(self, rank_score: pl.Series) -> pl.Series:
        """`click_probability` (Float64) of each score, positions as the log showed them."""
        if self.calibration is None:
            raise ModelError(
                "this ranker has no calibration, so its scores are no probabilities: fit it with models.ranker.fit"
            )
        return self.calibration.probability(rank_score)

    def contributions(self, frame: pl.DataFrame) -> pl.DataFrame:
        """What each column adds to a score (the trees' SHAP values), and `bias`; they sum to `score`."""
        names = [*self.columns, "bias"]
        values = matrix(frame, self.columns)
        if not frame.height:
            return pl.DataFrame(schema=dict.fromkeys(names, pl.Float64))
        return pl.DataFrame(self._mean(values, pred_contrib=True), names)

    def importance(self) -> pl.DataFrame:
        """`feature`, `gain`: the training loss that splits on each column removed, greatest first."""
        gains = self.info["importance"]
        return pl.DataFrame(
            {"feature": list(gains), "gain": list(gains.values())},
            schema={"feature": pl.String, "gain": pl.Float64},
        ).sort("gain", "feature", descending=[True, False])

    def save(self, folder: Path) -> None:
        """Write `booster-0.txt`, … and `ranker.json`: text only, nothing is pickled."""
        folder.mkdir(parents=True, exist_ok=True)
        description = {
            "format": _FORMAT,
            "boosters": len(self.boosters),
            "columns": list(self.columns),
            "info": dict(self.info),
            "calibration": self.calibration.as_json() if self.calibration else None,
        }
        for number, booster in enumerate(self.boosters):
            (folder / _BOOSTER.format(number)).write_text(booster.model_to_string(), encoding="utf-8")
        (folder / _DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")

    def _mean(self, values: pl.DataFrame, **wanted: bool) -> Any:
        return np.mean([booster.predict(values, **wanted) for booster in self.boosters], axis=0)


def load(folder: Path) -> Ranker:
    """Read what `Ranker.save` wrote. Raises ModelError if it is absent, broken or of another format."""
    import lightgbm

    try:
        description = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
        if description["format"] != _FORMAT:
            raise ModelError(
                f"{folder} holds a ranker of format {description['format']}; this version reads format "
                f"{_FORMAT}: fit again with `momentrank run`"
            )
        columns, info, knots = (description[key] for key in ("columns", "info", "calibration"))
        boosters = tuple(
            lightgbm.Booster(model_str=(folder / _BOOSTER.format(number)).read_text(encoding="utf-8"))
            for number in range(description["boosters"])
        )
        calibration = restore(knots) if knots else None
    except (OSError, ValueError, KeyError, TypeError, lightgbm.basic.LightGBMError) as error:
        raise ModelError(
            f"no ranker can be read from {folder} ({error}): expected {_BOOSTER.format(0)}, … and "
            f"{_DESCRIPTION}, as `momentrank run` saves them"
        ) from None
    read = {booster.num_feature() for booster in boosters}
    if read != {len(columns)}:
        raise ModelError(
            f"{folder} holds boosters of {', '.join(map(str, sorted(read))) or 'no'} features for "
            f"{len(columns)} columns: fit again with `momentrank run`"
        )
    return Ranker(boosters, tuple(columns), info, calibration)


def fit(
    dataset: pl.DataFrame,
    columns: Sequence[str],
    config: sections.Ranker,
    labels: sections.Labels,
    seed: int,
    *,
    progress: Progress | None = None,
) -> Ranker:
    """Fit on `columns` of `dataset`: a row a candidate with `slice, impression_id, item_id, position, label`.

    Feature columns are numeric (null or NaN is missing). Impressions whose candidates all have one label hold
    no pair to learn from: they are left out of the boosters, not of the calibration. With one slice, `as_of`
    tells which impressions are last. The same dataset, in any row order, and seed give the same model. Raises
    TableError for missing key columns, ModelError for features that are missing or not numeric, a monotone
    pattern without a column, labels that are no declared gain, fewer than two impressions to learn from, or an
    interest score from a version that saw the row's slice (`interest_slice`).
    """
    require(dataset, (*_KEYS, "position", "label"), "the ranker")
    refuse_leaks(dataset)
    dataset = dataset.sort(_KEYS)
    usable = dataset.filter((pl.col("label").max() != pl.col("label").min()).over("impression_id"))
    levels = label_levels(usable["label"], labels)
    held_out = folds(usable, config.folds)
    ways = directions(config.monotone, feature_columns(dataset), columns)
    parameters = parameters_of(config, levels, seed) | ({"monotone_constraints": ways} if any(ways) else {})
    places = propensities(dataset) if config.position_bias != "none" else None
    training = _Training(usable, columns, levels, parameters, places, config.position_bias == "learned")
    grown, curve = training.search(held_out, config, progress)
    rounds = int(np.argmax(curve)) + 1
    boosters = training.fit(rounds, config.seeds, progress)
    gains = np.mean([booster.feature_importance(importance_type="gain") for booster in boosters], axis=0)
    info = {
        "best_iteration": rounds,
        "validation_ndcg@10": float(curve[rounds - 1]),
        "folds": len(held_out),
        "rows": usable.height,
        "impressions": usable["impression_id"].n_unique(),
        "slices": usable["slice"].unique().sort().to_list(),
        "importance": {column: float(gain) for column, gain in zip(columns, gains, strict=True)},
    }
    if places is not None:
        info["propensities"] = {str(place): value for place, value in places.iter_rows()}
    unseen = [dataset.filter(fold.held_out) for fold in held_out]
    scores = [
        booster.predict(matrix(rows, columns), num_iteration=rounds)
        for booster, rows in zip(grown, unseen, strict=True)
    ]
    clicked = pl.concat([rows["label"] for rows in unseen]) > 0
    calibration = calibrate(np.concatenate(scores), clicked.to_numpy())
    return Ranker(tuple(boosters), tuple(columns), info, calibration)


class _Training:
    """Rows in the form that LightGBM learns from, binned once, and what position adds to them."""

    def __init__(
        self,
        rows: pl.DataFrame,
        columns: Sequence[str],
        levels: Sequence[float],
        parameters: Mapping[str, Any],
        places: pl.DataFrame | None,
        learned: bool,
    ) -> None:
        import lightgbm

        self.rows, self.parameters, self.learned = rows, parameters, learned
        self.offset = None if places is None else _offset(rows["position"], places)
        sizes = rows.group_by("slice", "impression_id", maintain_order=True).len()["len"]
        self.data = lightgbm.Dataset(
            matrix(rows, columns),
            label=np.searchsorted(levels, rows["label"].to_numpy()),
            group=sizes.to_numpy(),
            feature_name=plain(columns),
            params={key: parameters[key] for key in _BINNING},
        ).construct()

    def search(
        self, held_out: Sequence[Fold], config: sections.Ranker, progress: Progress | None
    ) -> tuple[Sequence[Any], Sequence[float]]:
        """One booster a fold, grown side by side, and the mean of their nDCG@10 after each round."""
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
            config.rounds,
            folds=rows,
            fpreproc=prepare,
            callbacks=[
                lightgbm.early_stopping(config.early_stopping, verbose=False),
                *([_report("search", progress)] if progress else []),
            ],
            return_cvbooster=True,
        )
        return found["cvbooster"].boosters, found["valid ndcg@10-mean"]

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
