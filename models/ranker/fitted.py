"""A fitted ranker: it scores, explains itself, and is saved as text."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import ModelError
from models.ranker.calibration import Calibration, restore
from models.ranker.input import matrix

_FORMAT = 2
_BOOSTER = "booster-{}.txt"
_DESCRIPTION = "ranker.json"


@dataclass(frozen=True)
class Ranker:
    """A fitted ranker: it scores exactly the columns that it was fitted on, found by name."""

    boosters: tuple[Any, ...]
    """lightgbm.Booster, one a seed."""
    columns: tuple[str, ...]
    info: Mapping[str, Any]
    """`objective`, `best_iteration`, `validation_metric`, `validation` (its best value), `folds`, `rows`,
    `impressions`, `slices`, `importance` and, where they were estimated, `propensities` by position."""
    calibration: Calibration | None = None

    def score(self, frame: pl.DataFrame) -> pl.Series:
        """`rank_score` of each row of `frame`: Float64, higher is better; of a `binary` ranker the log odds of a click.

        Of a `lambdarank` ranker, comparable inside an impression only.

        Raises ModelError, naming them, if fitted columns are missing or not numeric.
        """
        values = self._mean(matrix(frame, self.columns)) if frame.height else []
        return pl.Series("rank_score", values, dtype=pl.Float64)

    def score_rows(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """`score` of rows that are in the order of `columns` already, on one core: requests come one by one."""
        found: NDArray[np.float64] = np.mean(
            [booster.predict(values, raw_score=True, num_threads=1) for booster in self.boosters], axis=0
        )
        return found

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
        return np.mean(
            [booster.predict(values, **(wanted or {"raw_score": True})) for booster in self.boosters], axis=0
        )


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
