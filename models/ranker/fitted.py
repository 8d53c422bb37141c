"""A fitted ranker: scores, contributions, saving as text and loading."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import ModelError
from models.ranker.calibration import Calibration
from models.ranker.input import matrix
from models.ranker.served_ranker import FORMAT, ServedRanker


@dataclass(frozen=True)
class Ranker:
    """A fitted ranker. It reads the columns that it was fitted on by name."""

    boosters: tuple[Any, ...]
    """lightgbm.Booster, one per seed."""
    columns: tuple[str, ...]
    info: Mapping[str, Any]
    """`objective`, `best_iteration`, `validation_metric`, `validation` (its best value), `folds`, `rows`,
    `impressions`, `slices`, `importance` and, if estimated, `propensities` by position."""
    calibration: Calibration | None = None

    def score(self, frame: pl.DataFrame) -> pl.Series:
        """`rank_score` (Float64) of each row of `frame`, higher is better.

        Scores of a `lambdarank` ranker compare candidates of one impression only; those of a `binary` ranker are the
        log odds of a click. Raises ModelError if fitted columns are missing or not numeric.
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
        """`click_probability` (Float64) of each score, averaged over the log's positions."""
        if self.calibration is None:
            raise ModelError(
                "this ranker has no calibration, so it gives no probabilities: fit it with models.ranker.fit"
            )
        return self.calibration.probability(rank_score)

    def contributions(self, frame: pl.DataFrame) -> pl.DataFrame:
        """SHAP values: each column's contribution to the score, and `bias`; they sum to `score`."""
        names = [*self.columns, "bias"]
        values = matrix(frame, self.columns)
        if not frame.height:
            return pl.DataFrame(schema=dict.fromkeys(names, pl.Float64))
        return pl.DataFrame(self._mean(values, pred_contrib=True), names)

    def importance(self) -> pl.DataFrame:
        """`feature`, `gain`: how much the splits on each column lowered the training loss, largest first."""
        gains = self.info["importance"]
        return pl.DataFrame(
            {"feature": list(gains), "gain": list(gains.values())},
            schema={"feature": pl.String, "gain": pl.Float64},
        ).sort("gain", "feature", descending=[True, False])

    def save(self, folder: Path) -> None:
        """Write `booster-0.txt`, … and `ranker.json`, without pickles."""
        folder.mkdir(parents=True, exist_ok=True)
        description = {
            "format": FORMAT,
            "boosters": len(self.boosters),
            "columns": list(self.columns),
            "info": dict(self.info),
            "calibration": asdict(self.calibration) if self.calibration else None,
        }
        for number, booster in enumerate(self.boosters):
            (folder / f"booster-{number}.txt").write_text(booster.model_to_string(), encoding="utf-8")
        (folder / "ranker.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")

    def _mean(self, values: pl.DataFrame, **options: bool) -> Any:
        return np.mean(
            [booster.predict(values, **(options or {"raw_score": True})) for booster in self.boosters], axis=0
        )


def load(folder: Path) -> Ranker:
    """Load a ranker saved by `Ranker.save`. Raises ModelError if it is missing, broken or of another format."""
    from lightgbm.basic import LightGBMError

    try:
        saved = ServedRanker(folder)
    except (OSError, ValueError, KeyError, TypeError, LightGBMError) as error:
        raise ModelError(
            f"cannot read a ranker from {folder} ({error}): fit it again with `momentrank run`"
        ) from None
    knots = saved.description["calibration"]
    calibration = Calibration(tuple(knots["scores"]), tuple(knots["probabilities"])) if knots else None
    return Ranker(tuple(saved.boosters), tuple(saved.columns), saved.description["info"], calibration)
