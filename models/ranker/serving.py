"""A ranker version behind MLflow's generic interface: candidates in, ranks out.

A version ships this file beside its text files (`models/registry/shipping.py`). It imports nothing of this project, so that a
version answers the same in any application, and needs LightGBM, NumPy and pandas only. MLflow calls `_load_pyfunc`
with the version's folder; nothing is pickled.
"""

import json
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

FULL = "full"
"""Folder of the ranker that answers; its ablations lie beside it under their names."""
KEYS = ("impression_id", "item_id")
"""What a candidate carries beside the fitted columns: its list, and itself."""

_FORMAT = 2
_SALT = bytes(16)


class ServedRanker:
    """A saved ranker that orders any number of lists at once."""

    def __init__(self, folder: Path) -> None:
        """Read what `Ranker.save` wrote. Raises ValueError for another format."""
        import lightgbm

        description = json.loads((folder / "ranker.json").read_text(encoding="utf-8"))
        if description["format"] != _FORMAT:
            raise ValueError(
                f"{folder} holds a ranker of format {description['format']}, this file reads format {_FORMAT}: "
                f"load the version with the code that it ships"
            )
        self._columns: list[str] = description["columns"]
        self._calibration: Mapping[str, list[float]] | None = description["calibration"]
        self._boosters = [
            lightgbm.Booster(model_str=(folder / f"booster-{number}.txt").read_text(encoding="utf-8"))
            for number in range(description["boosters"])
        ]

    def predict(self, rows: Any, params: Mapping[str, Any] | None = None) -> Any:
        """A pandas frame, row for row as given: `rank` (from 1, in its list), `rank_score`, `click_probability`.

        `rows` is a pandas frame with a row a candidate: `impression_id` (any name for its list), `item_id` and the
        columns that the ranker was fitted on; other columns are ignored, and a missing value may be null. A ranker
        that was fitted without calibration gives no probability. Raises ValueError where columns are missing or
        are not numbers.
        """
        import pandas

        missing = [name for name in (*KEYS, *self._columns) if name not in rows.columns]
        if missing:
            raise ValueError(
                f"the ranker needs the columns {', '.join(missing)}; found {', '.join(map(str, rows.columns))}: "
                f"give every column of the version's signature"
            )
        try:
            values = rows[self._columns].to_numpy(dtype="float64", na_value=float("nan")).astype("float32")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"a fitted column holds something that is not a number ({error}): give numbers, and null where "
                f"there is none"
            ) from None
        score = self._score(values)
        answer = {"rank": _rank(rows["impression_id"], rows["item_id"], score), "rank_score": score}
        if self._calibration is not None:
            answer["click_probability"] = np.interp(
                score, self._calibration["scores"], self._calibration["probabilities"]
            )
        return pandas.DataFrame(answer, index=rows.index)

    def _score(self, values: Any) -> Any:
        """Mean over the boosters, [n] float64."""
        if not len(values):
            return np.zeros(0)
        return np.mean([booster.predict(values, raw_score=True) for booster in self._boosters], axis=0)


def _rank(lists: Any, items: Any, score: Any) -> Any:
    """Rank of each row in its list, int32; equal scores are ordered as by `models.ranking.order`."""
    import pandas

    items = items.astype(str).to_numpy()
    frame = pandas.DataFrame({"list": lists.astype(str).to_numpy(), "score": score, "item": items})
    frame["tie"] = np.array([_hash(item) for item in items], dtype="uint64")
    ordered = frame.sort_values(
        ["list", "score", "tie", "item"], ascending=[True, False, True, True], kind="stable"
    )
    return (ordered.groupby("list").cumcount() + 1).sort_index().to_numpy().astype("int32")


def _hash(item: str) -> int:
    return int.from_bytes(blake2b(item.encode(), digest_size=8, salt=_SALT).digest(), "little")


def _load_pyfunc(folder: str) -> ServedRanker:
    """What MLflow calls, by this name."""
    return ServedRanker(Path(folder, FULL))
