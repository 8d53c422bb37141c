"""The ranker: LightGBM LambdaRank over behavioural features and the interest score.

Protocol of `fit`: the rounds are chosen by early stopping on the dataset's last slice (or, with a single
slice, on its last fifth of impressions), then the model is fitted again on everything with that many rounds:
the newest slice is the one most like the next, and must not be spent on a stopping rule alone.

Position enters the training only, as LightGBM's additive position bias: it learns one offset a position
beside the trees, which takes up the clicks that a place draws. It is no feature; scoring neither needs nor
sees it.
"""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features import sections
from features.errors import ModelError
from models.ranking import require

Progress = Callable[[dict[str, Any]], None]
"""Receives `{"stage": "search" | "fit", "round", "rounds"}` after each round, with "ndcg@10" in a search."""

_KEYS = ("slice", "impression_id", "item_id")
_FORMAT = 1
_BOOSTER = "booster.txt"
_DESCRIPTION = "ranker.json"
_HELD_OUT = 0.2


@dataclass(frozen=True)
class Ranker:
    """A fitted ranker: it scores exactly the columns that it was fitted on, found by name."""

    booster: Any
    """lightgbm.Booster."""
    columns: tuple[str, ...]
    info: Mapping[str, Any]
    """`best_iteration`, `validation_ndcg@10`, `rows`, `impressions`, `slices` and `importance`."""

    def score(self, frame: pl.DataFrame) -> pl.Series:
        """`rank_score` of each row of `frame`: Float64, higher is better, comparable inside a list only.

        Raises ModelError, naming them, if fitted columns are missing or not numeric.
        """
        values = self.booster.predict(_matrix(frame, self.columns)) if frame.height else []
        return pl.Series("rank_score", values, dtype=pl.Float64)

    def contributions(self, frame: pl.DataFrame) -> pl.DataFrame:
        """What each column adds to a score (the trees' SHAP values), and `bias`; they sum to `score`."""
        names = [*self.columns, "bias"]
        if not frame.height:
            return pl.DataFrame(schema=dict.fromkeys(names, pl.Float64))
        return pl.DataFrame(self.booster.predict(_matrix(frame, self.columns), pred_contrib=True), names)

    def importance(self) -> pl.DataFrame:
        """`feature`, `gain`: the training loss that splits on each column removed, greatest first."""
        gains = self.info["importance"]
        return pl.DataFrame(
            {"feature": list(gains), "gain": list(gains.values())},
            schema={"feature": pl.String, "gain": pl.Float64},
        ).sort("gain", "feature", descending=[True, False])

    def save(self, folder: Path) -> None:
        """Write `booster.txt` and `ranker.json`: text only, nothing is pickled."""
        folder.mkdir(parents=True, exist_ok=True)
        description = {"format": _FORMAT, "columns": list(self.columns), "info": dict(self.info)}
        (folder / _BOOSTER).write_text(self.booster.model_to_string(), encoding="utf-8")
        (folder / _DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> Ranker:
    """Read what `Ranker.save` wrote. Raises ModelError if it is absent, broken or of another format."""
    import lightgbm

    try:
        description = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
        booster = lightgbm.Booster(model_str=(folder / _BOOSTER).read_text(encoding="utf-8"))
        columns, written = tuple(description["columns"]), description["format"]
        info = description["info"]
    except (OSError, ValueError, KeyError, TypeError, lightgbm.basic.LightGBMError) as error:
        raise ModelError(
            f"no ranker can be read from {folder} ({error}): expected {_BOOSTER} and {_DESCRIPTION}, "
            "as `momentrank run` saves them"
        ) from None
    if written != _FORMAT or booster.num_feature() != len(columns):
        raise ModelError(
            f"{folder} holds a ranker of format {written} with {booster.num_feature()} features for "
            f"{len(columns)} columns; this version reads format {_FORMAT}: fit again with `momentrank run`"
        )
    return Ranker(booster, columns, info)


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
    no pair to learn from and are left out. With one slice, `as_of` tells which impressions are last. The same
    dataset, in any row order, and seed give the same model. Raises TableError for missing key columns,
    ModelError for features that are missing or not numeric, labels that are no declared gain, fewer than two
    impressions to learn from, or an interest score from a version that saw the row's slice
    (`interest_slice`).
    """
    require(dataset, (*_KEYS, "position", "label"), "the ranker")
    _refuse_leaks(dataset)
    usable = dataset.filter((pl.col("label").max() != pl.col("label").min()).over("impression_id")).sort(
        _KEYS
    )
    levels = _levels(usable["label"], labels)
    held_out = _held_out(usable)
    parameters = _parameters(config, levels, seed)
    search = usable.filter(~held_out), usable.filter(held_out)
    found = _train(search, columns, parameters, config, levels, config.rounds, progress)
    rounds = max(1, found.best_iteration)
    booster = _train((usable, None), columns, parameters, config, levels, rounds, progress)
    gains = booster.feature_importance(importance_type="gain")
    info = {
        "best_iteration": rounds,
        "validation_ndcg@10": float(found.best_score["validation"]["ndcg@10"]),
        "rows": usable.height,
        "impressions": usable["impression_id"].n_unique(),
        "slices": usable["slice"].unique().sort().to_list(),
        "importance": {column: float(gain) for column, gain in zip(columns, gains, strict=True)},
    }
    return Ranker(booster, tuple(columns), info)


def _train(
    parts: tuple[pl.DataFrame, pl.DataFrame | None],
    columns: Sequence[str],
    parameters: Mapping[str, Any],
    config: sections.Ranker,
    levels: Sequence[float],
    rounds: int,
    progress: Progress | None,
) -> Any:
    import lightgbm

    rows, held_out = parts
    training = _dataset(rows, columns, parameters, levels, position=config.position_bias)
    callbacks = [_report("search" if held_out is not None else "fit", progress)] if progress else []
    if held_out is None:
        return lightgbm.train(dict(parameters), training, rounds, callbacks=callbacks)
    validation = _dataset(held_out, columns, parameters, levels, position=False, reference=training)
    callbacks.append(lightgbm.early_stopping(config.early_stopping, verbose=False))
    return lightgbm.train(
        dict(parameters),
        training,
        rounds,
        valid_sets=[validation],
        valid_names=["validation"],
        callbacks=callbacks,
    )


def _dataset(
    rows: pl.DataFrame,
    columns: Sequence[str],
    parameters: Mapping[str, Any],
    levels: Sequence[float],
    *,
    position: bool,
    reference: Any = None,
) -> Any:
    import lightgbm

    sizes = rows.group_by("slice", "impression_id", maintain_order=True).len()["len"]
    return lightgbm.Dataset(
        _matrix(rows, columns),
        label=np.searchsorted(levels, rows["label"].to_numpy()),
        group=sizes.to_numpy(),
        position=rows["position"].cast(pl.Int32).to_numpy() if position else None,
        feature_name=_plain(columns),
        reference=reference,
        params={key: parameters[key] for key in ("num_threads", "verbosity", "force_row_wise", "max_bin")},
    )


def _parameters(config: sections.Ranker, levels: Sequence[float], seed: int) -> dict[str, Any]:
    return {
        "objective": "lambdarank",
        "metric": "ndcg",
        "eval_at": [10],
        "label_gain": list(levels),
        "learning_rate": config.learning_rate,
        "num_leaves": config.leaves,
        "min_data_in_leaf": config.min_leaf,
        "max_bin": 127,
        "feature_fraction": 0.5,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        # Its threads wait for each other by spinning: on a machine that is also doing something else, as many
        # threads as cores were ten times slower than half as many.
        "num_threads": max(1, (os.cpu_count() or 1) // 2),
        "verbosity": -1,
    }


def _levels(label: pl.Series, labels: sections.Labels) -> list[float]:
    """Declared gains in order, 0 included: a label's place among them is its LightGBM level."""
    levels = sorted({0.0, *labels.gains.values()})
    unknown = sorted(set(label.unique().to_list()) - set(levels), key=str)
    if levels[0] < 0 or unknown:
        raise ModelError(
            f"labels are {', '.join(map(str, unknown[:5])) or 'negative'}; expected one of {levels}, the "
            "declared gains: mend labels.gains in the project file, then run again"
        )
    return levels


def _held_out(usable: pl.DataFrame) -> pl.Series:
    """Rows to stop early on: the last slice, or the last fifth of the impressions if there is only one."""
    impressions = usable["impression_id"].n_unique()
    if impressions < 2:
        raise ModelError(
            f"{impressions} impressions have both a better and a worse candidate; a ranker needs at least 2, "
            "and hundreds to be any good: widen ranker.window or the slices"
        )
    if usable["slice"].n_unique() > 1:
        return usable["slice"] == usable["slice"].max()
    require(usable, ("as_of",), "a ranker fitted on one slice")
    shown = usable.group_by("impression_id").agg(pl.col("as_of").min()).sort("as_of", "impression_id")
    last = shown["impression_id"].tail(max(1, int(impressions * _HELD_OUT)))
    return usable["impression_id"].is_in(last.implode())


def _refuse_leaks(dataset: pl.DataFrame) -> None:
    if "interest_slice" not in dataset.columns:
        return
    leaks = dataset.filter(pl.col("interest_slice") >= pl.col("slice")).height
    if leaks:
        raise ModelError(
            f"{leaks} rows carry an interest score of a version fitted on their own or a later slice; only "
            "earlier versions may score them: score these slices again"
        )


def _matrix(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """The columns in fitted order as Float32; anything else makes LightGBM end the process."""
    missing = [column for column in columns if column not in frame.columns]
    if missing or not columns:
        raise ModelError(
            f"the ranker needs the columns {', '.join(missing) or '(none declared)'}, not in the table: "
            "compute them as for its training, or fit a new ranker on what there is"
        )
    other = [
        f"{column} ({frame.schema[column]})"
        for column in columns
        if not (frame.schema[column].is_numeric() or frame.schema[column] == pl.Boolean)
    ]
    if other:
        raise ModelError(
            f"columns are not numbers: {', '.join(other)}: turn them into numbers or leave them out"
        )
    return frame.select(pl.col(*columns).cast(pl.Float32)).rechunk()


def _plain(columns: Sequence[str]) -> list[str]:
    """Names that LightGBM accepts: it refuses the special characters of JSON."""
    return [f"{place}_" + re.sub(r"\W", "_", column) for place, column in enumerate(columns)]


def _report(stage: str, progress: Progress) -> Callable[[Any], None]:
    def report(state: Any) -> None:
        step = {"stage": stage, "round": state.iteration + 1, "rounds": state.end_iteration}
        scores = {entry[1]: entry[2] for entry in state.evaluation_result_list or ()}
        progress({**step, **scores})

    return report
