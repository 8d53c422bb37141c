"""A version as MLflow's generic model: rows of texts in, probabilities out. Does not import MLflow.

A version ships this package under its own name (`models/registry/shipping.py`). MLflow calls `_load_pyfunc` with the
version's folder; nothing is pickled. Items have only their text, like new items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from .config import InterestConfig
from .item_arrays import ItemArrays
from .moment_arrays import MomentArrays
from .scoring import score
from .version import InterestModel


class ServedInterest:
    """A version that scores candidates of any number of users per call."""

    def __init__(self, model: InterestModel) -> None:
        self._model = model

    def predict(self, rows: Any, params: Mapping[str, Any] | None = None) -> list[list[float]]:
        """Click probability of each candidate: one list per row, in the order of its candidates.

        `rows`: a pandas frame with `history` (a list of `{text, action, at}`), `candidates` (a list of texts) and
        optionally `at` (default: just after the history). Instants are epoch seconds; history from `at` on is
        ignored. Raises InterestModelError for an undeclared action.
        """
        requests = rows.to_dict("records")
        items, moments = _arrays(requests, self._model.config)
        scores = score(self._model, items, moments)
        starts = moments.impression_start
        return [scores[a:b].astype(float).tolist() for a, b in pairwise(starts)]


def example(config: InterestConfig) -> list[dict[str, Any]]:
    """Two rows for `predict`, one of them without history and instant."""
    past = {"text": "Storm closes the harbour", "action": config.actions[0], "at": 1_767_600_000.0}
    return [
        {
            "history": [past],
            "candidates": ["Ferries sail again after the storm", "Soup for cold evenings"],
            "at": 1_767_600_060.0,
        },
        {"history": [], "candidates": ["Soup for cold evenings"], "at": None},
    ]


def _load_pyfunc(folder: str) -> ServedInterest:
    """MLflow's entry point, which it finds by this name."""
    return ServedInterest(InterestModel.load(Path(folder)))


def _arrays(requests: Sequence[Mapping[str, Any]], config: InterestConfig) -> tuple[ItemArrays, MomentArrays]:
    """Arrays in which each request is a user with one impression."""
    pasts = [sorted(request["history"], key=lambda moment: moment["at"]) for request in requests]
    shown = [list(request["candidates"]) for request in requests]
    instants = [_instant(request.get("at"), past) for request, past in zip(requests, pasts, strict=True)]
    known = [
        [moment for moment in past if moment["at"] < at] for past, at in zip(pasts, instants, strict=True)
    ]
    past_moments = [moment for past in known for moment in past]
    texts = [moment["text"] for moment in past_moments] + [text for texts in shown for text in texts]
    items = ItemArrays.of_texts(texts)
    items = replace(items, number=np.full((len(items), len(config.numbers)), np.nan, dtype=np.float32))
    return items, MomentArrays(
        history_item=np.arange(len(past_moments)),
        history_action=np.array(
            [config.action_code(moment["action"]) for moment in past_moments], dtype=np.int64
        ),
        history_at=np.array([moment["at"] for moment in past_moments], dtype=np.float64),
        user_start=_starts(known),
        impression_user=np.arange(len(requests)),
        impression_prefix=np.array([len(past) for past in known], dtype=np.int64),
        impression_at=np.array(instants, dtype=np.float64),
        impression_start=_starts(shown),
        candidate_item=np.arange(len(past_moments), len(texts)),
        label=np.zeros(len(texts) - len(past_moments), dtype=np.float32),
    )


def _instant(at: float | None, past: Sequence[Mapping[str, Any]]) -> float:
    """Instant of an impression; by default (None, in pandas NaN) just after the history."""
    if at is None or np.isnan(at):
        return float(np.nextafter(past[-1]["at"], np.inf)) if past else 0.0
    return float(at)


def _starts(parts: Sequence[Sequence[Any]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
