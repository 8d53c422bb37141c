"""A registered ranker behind MLflow's generic interface: candidates in, ranks out. Knows no MLflow.

MLflow finds this module by the name that a logged model carries, and calls `_load_pyfunc` with the version's
folder of text files: nothing is pickled. The logged model brings `features` and `models` along as they were
when it was fitted (`code_paths`), so plain MLflow with the pinned requirements loads it in any folder, whether
this project is installed there or not; where it is already imported, its own code is used.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from features.errors import ModelError
from models.ranker import Ranker, load
from models.ranking import order, require

FULL = "full"
"""Folder of the ranker that answers; its ablations lie beside it under their names."""
KEYS = ("impression_id", "item_id")
"""What a candidate carries beside the fitted columns: its list, and itself."""


class ServedRanker:
    """A ranker that orders any number of lists at once."""

    def __init__(self, ranker: Ranker) -> None:
        self._ranker = ranker

    def predict(self, rows: Any, params: Mapping[str, Any] | None = None) -> Any:
        """A pandas frame, row for row as given: `rank` (from 1, in its list), `rank_score`, `click_probability`.

        `rows` is a pandas frame, a row a candidate: `impression_id` (any name for the list it is in), `item_id`
        and the columns that the ranker was fitted on; others are passed over, and a missing value may be null.
        A ranker that was fitted without calibration gives no probability. Raises TableError or ModelError,
        naming them, where columns are missing.
        """
        import pandas

        require(rows, KEYS, "a served ranker")
        given = [name for name in self._ranker.columns if name in rows.columns]
        try:
            values = rows[given].to_numpy(dtype="float64", na_value=float("nan"))
        except (TypeError, ValueError) as error:
            raise ModelError(
                f"a fitted column holds what is no number ({error}): give numbers, and null where there is none"
            ) from None
        keys = {name: rows[name].astype(str).to_list() for name in KEYS}
        answer = self.answer(pl.DataFrame(values, given, orient="row").with_columns(pl.DataFrame(keys)))
        return pandas.DataFrame({one.name: one.to_numpy() for one in answer}, index=rows.index)

    def answer(self, frame: pl.DataFrame) -> pl.DataFrame:
        """What `predict` answers, polars in and out."""
        scored = frame.select(*KEYS).with_columns(self._ranker.score(frame)).with_row_index("row")
        ranked = order(scored, score="rank_score").sort("row").select("rank", "rank_score")
        if self._ranker.calibration is None:
            return ranked
        return ranked.with_columns(self._ranker.probability(ranked["rank_score"]))


def _load_pyfunc(folder: str) -> ServedRanker:
    """What MLflow calls, by this name."""
    return ServedRanker(load(Path(folder, FULL)))
