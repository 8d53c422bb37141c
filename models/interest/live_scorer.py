"""The interest model of a live process: encoded items, and the states of users with recent requests."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch

from .item_arrays import Embedded, ItemArrays
from .scoring import LiveState, embed, extend, read_items, score_live, start
from .version import InterestModel

_USERS = 5_000
"""Cached user states, about 200 kB each with default settings."""


@dataclass(frozen=True)
class LiveHistory:
    """A user's history, oldest first. Row -1 is an unknown item, of which only the id is known."""

    items: npt.NDArray[np.int64]
    """[n] row of each item."""
    ids: npt.NDArray[np.int64]
    """[n] `id_code` of each item."""
    actions: Sequence[str]
    at: npt.NDArray[np.float64]
    """[n] epoch seconds."""
    settled: int
    """The number of leading moments that no later request changes."""


class LiveScorer:
    """Scores the candidates of one user per call. Thread-safe."""

    def __init__(self, model: InterestModel, items: ItemArrays, cache: Path | None = None) -> None:
        """Encode `items`; the last one represents unknown items."""
        self._model, self._cache = model, cache
        self._items = embed(model, items, cache)
        self._read = read_items(model, self._items)
        self._states: OrderedDict[str, tuple[LiveHistory, LiveState]] = OrderedDict()
        self._lock = Lock()

    def set_items(self, kept: npt.NDArray[np.int64], added: ItemArrays) -> None:
        """Replace the items, drop cached states. `kept`: for each item an old row, or -1 - n for row n of `added`."""
        new = embed(self._model, added, self._cache) if len(added) else None
        items = self._items if new is None else self._items.joined(new)
        items = items[np.where(kept >= 0, kept, len(self._items) - 1 - kept)]
        read = read_items(self._model, items)
        with self._lock:
            self._items, self._read = items, read
            self._states.clear()

    def score(
        self,
        user: str,
        history: LiveHistory,
        rows: npt.NDArray[np.int64],
        ids: npt.NDArray[np.int64],
        at: float,
    ) -> npt.NDArray[np.float32]:
        """Probabilities [n] of the candidates `rows` with `ids`, shown at `at` (epoch seconds)."""
        with self._lock:
            items, read = self._items, self._read
            known, state = self._states.get(user, (None, start(self._model)))
        done = 0 if known is None else known.settled
        if known is None or not _continues(known, history):
            known, done, state = None, max(0, len(history.at) - self._model.config.reach), start(self._model)
            done = min(done, history.settled)
        state = self._extend(state, items, history, done, history.settled)
        with self._lock:
            if items is self._items:
                self._states[user] = history, state
                self._states.move_to_end(user)
                if len(self._states) > _USERS:
                    self._states.popitem(last=False)
        state = self._extend(state, items, history, history.settled, len(history.at))
        known_rows = (rows >= 0).all()
        return score_live(
            self._model,
            state,
            read[torch.from_numpy(rows).to(self._model.device)] if known_rows else _picked(items, rows, ids),
            at,
        )

    def _extend(
        self, state: LiveState, items: Embedded, history: LiveHistory, first: int, until: int
    ) -> LiveState:
        if first >= until:
            return state
        part = slice(first, until)
        chosen = _picked(items, history.items[part], history.ids[part])
        return extend(self._model, state, chosen, history.actions[part], history.at[part])


def _continues(known: LiveHistory, history: LiveHistory) -> bool:
    """Whether a history starts with the settled moments of an earlier one."""
    n = known.settled
    return (
        history.settled >= n
        and np.array_equal(known.at[:n], history.at[:n])
        and np.array_equal(known.ids[:n], history.ids[:n])
    )


def _picked(items: Embedded, rows: npt.NDArray[np.int64], ids: npt.NDArray[np.int64]) -> Embedded:
    found = items[np.where(rows < 0, len(items) - 1, rows)]
    return replace(found, id=torch.from_numpy(ids).to(found.id.device))
