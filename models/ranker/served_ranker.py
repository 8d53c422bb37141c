"""A ranker version behind MLflow's generic interface: candidates in, ranks out.

A version ships this file with its text files (`models/registry/shipping.py`). It imports nothing from this project, so
a version works in any application, and needs only LightGBM, NumPy and pandas. MLflow calls `_load_pyfunc` with the
version's folder; nothing is pickled.
"""

import json
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

FULL = "full"
"""Folder of the full ranker; its ablations are in sibling folders under their names."""
KEYS = ("impression_id", "item_id")
"""Columns that identify a candidate."""

FORMAT = 2
_SALT = bytes(16)


class ServedRanker:
    """A saved ranker that ranks any number of impressions at once."""

    def __init__(self, folder: Path) -> None:
        """Load a ranker saved by `Ranker.save`. Raises ValueError for another format."""
        import lightgbm

        description = self.description = json.loads((folder / "ranker.json").read_text(encoding="utf-8"))
        if description["format"] != FORMAT:
            raise ValueError(
                f"{folder} holds a ranker of format {description['format']}, this file reads format {FORMAT}: "
                f"load the version with the code that it ships"
            )
        self.columns: list[str] = description["columns"]
        self.boosters = [
            lightgbm.Booster(model_str=(folder / f"booster-{number}.txt").read_text(encoding="utf-8"))
            for number in range(description["boosters"])
        ]

    def predict(self, rows: Any, params: Mapping[str, Any] | None = None) -> Any:
        """A pandas frame in the row order of `rows`: `rank` (from 1, by impression), `rank_score`, `click_probability`.

        `rows` is a pandas frame with one row per candidate: `impression_id`, `item_id` and the columns that the ranker
        was fitted on. Other columns are ignored; missing values are null. A ranker without calibration gives no
        probability. Raises ValueError for columns that are missing or not numeric.
        """
        import pandas

        missing = [name for name in (*KEYS, *self.columns) if name not in rows.columns]
        if missing:
            raise ValueError(
                f"the ranker needs the columns {', '.join(missing)}; found {', '.join(map(str, rows.columns))}: "
                f"pass every column of the version's signature"
            )
        try:
            values = rows[self.columns].to_numpy(dtype="float64", na_value=float("nan")).astype("float32")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"a fitted column holds a value that is not a number ({error}): pass numbers, or null if missing"
            ) from None
        score = self._score(values)
        ranked = {"rank": _rank(rows["impression_id"], rows["item_id"], score), "rank_score": score}
        if knots := self.description["calibration"]:
            ranked["click_probability"] = np.interp(score, knots["scores"], knots["probabilities"])
        return pandas.DataFrame(ranked, index=rows.index)

    def _score(self, values: Any) -> Any:
        """Mean over the boosters, [n] float64."""
        if not len(values):
            return np.zeros(0)
        return np.mean([booster.predict(values, raw_score=True) for booster in self.boosters], axis=0)


def _rank(impressions: Any, items: Any, score: Any) -> Any:
    """Rank of each row in its impression, int32; ties break as in `models.ranking.order`."""
    import pandas

    items = items.astype(str).to_numpy()
    frame = pandas.DataFrame(
        {"impression": impressions.astype(str).to_numpy(), "score": score, "item": items}
    )
    frame["tie"] = np.array([_hash(item) for item in items], dtype="uint64")
    ordered = frame.sort_values(
        ["impression", "score", "tie", "item"], ascending=[True, False, True, True], kind="stable"
    )
    return (ordered.groupby("impression").cumcount() + 1).sort_index().to_numpy().astype("int32")


def _hash(item: str) -> int:
    return int.from_bytes(blake2b(item.encode(), digest_size=8, salt=_SALT).digest(), "little")


def _load_pyfunc(folder: str) -> ServedRanker:
    """MLflow's entry point: it looks for this name."""
    return ServedRanker(Path(folder, FULL))
