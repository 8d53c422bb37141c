"""The interest model of a live process: encoded items, and the states of users with recent requests."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch

from .explanation import Contributions, contributions_of
from .item_arrays import Embedded, ItemArrays
from .moment_arrays import MomentArrays
from .reader import Reading
from .scoring import LiveState, embed, extend, read_items, score_live, start
from .version import InterestModel

_USERS = 5_000
"""Cached user states, about 200 kB each with default settings."""


NewItems = tuple[Embedded, Reading]


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
    """The number of leading moments that no later request changes, as long as `since` is the same."""
    since: float
    """When unknown items were last looked up again."""


class LiveScorer:
    """Scores the candidates of one user per call. Thread-safe."""

    def __init__(self, model: InterestModel, items: ItemArrays, cache: Path | None = None) -> None:
        """Encode `items`; the last one represents unknown items."""
        self._model, self._cache = model, cache
        self._items = embed(model, items, cache)
        self._read = read_items(model, self._items)
        # One request is too little work to share: threads would mostly wait for each other.
        torch.set_num_threads(1)
        self._states: OrderedDict[str, tuple[LiveHistory, LiveState]] = OrderedDict()
        self._lock = Lock()

    def embed(self, items: ItemArrays) -> NewItems:
        """New items for `set_items`: the slow part, which needs no lock."""
        embedded = embed(self._model, items, self._cache)
        return embedded, read_items(self._model, embedded)

    def set_items(self, rows: npt.NDArray[np.int64], added: NewItems | None) -> None:
        """Replace the items. `rows`: for each item its row until now, or -1 - n for row n of `added`."""
        items, read = self._items, self._read
        rows = np.where(rows >= 0, rows, len(items) - 1 - rows)
        if added is not None:
            items, read = items.joined(added[0]), read.joined(added[1])
        with self._lock:
            self._items, self._read = items[rows], read[torch.from_numpy(rows).to(self._model.device)]

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
            cached = self._states.get(user)
        if cached is not None and _continues(cached[0], history):
            done, state = cached[0].settled, cached[1]
        else:
            # Not `reach` before the newest moment: a later request may have fewer moments that are not settled.
            done, state = max(0, history.settled - self._model.config.reach), start(self._model)
        state = self._extend(state, items, history, done, history.settled)
        with self._lock:
            self._states[user] = history, state
            self._states.move_to_end(user)
            if len(self._states) > _USERS:
                self._states.popitem(last=False)
        state = self._extend(state, items, history, history.settled, len(history.at))
        all_known = (rows >= 0).all()
        return score_live(
            self._model,
            state,
            read[torch.from_numpy(rows).to(self._model.device)] if all_known else _picked(items, rows, ids),
            at,
        )

    def moments_behind(
        self,
        history: LiveHistory,
        rows: npt.NDArray[np.int64],
        ids: npt.NDArray[np.int64],
        at: float,
        top: int,
    ) -> Contributions:
        """The `top` moments of the history with the greatest contributions to each candidate's logit."""
        first = max(0, len(history.at) - self._model.config.reach)
        count, size = len(history.at) - first, len(rows)
        with self._lock:
            items = self._items
        both = _picked(items, np.append(history.items[first:], rows), np.append(history.ids[first:], ids))
        config = self._model.config
        moments = MomentArrays(
            history_item=np.arange(count),
            history_action=np.array(
                [config.action_code(action) for action in history.actions[first:]], np.int64
            ),
            history_at=history.at[first:],
            user_start=np.array([0, count]),
            impression_user=np.zeros(1, np.int64),
            impression_prefix=np.array([count]),
            impression_at=np.array([at]),
            impression_start=np.array([0, size]),
            candidate_item=np.arange(count, count + size),
            label=np.zeros(size, np.float32),
        )
        result = contributions_of(self._model, both, moments, top)
        return replace(result, moment=np.where(result.moment < 0, -1, result.moment + first))

    def _extend(
        self, state: LiveState, items: Embedded, history: LiveHistory, first: int, until: int
    ) -> LiveState:
        if first >= until:
            return state
        part = slice(first, until)
        chosen = _picked(items, history.items[part], history.ids[part])
        return extend(self._model, state, chosen, history.actions[part], history.at[part])


def _continues(earlier: LiveHistory, history: LiveHistory) -> bool:
    """Whether a history starts with the settled moments of an earlier one."""
    n = earlier.settled
    return (
        history.settled >= n
        and history.since == earlier.since
        and np.array_equal(earlier.at[:n], history.at[:n])
        and np.array_equal(earlier.ids[:n], history.ids[:n])
    )


def _picked(items: Embedded, rows: npt.NDArray[np.int64], ids: npt.NDArray[np.int64]) -> Embedded:
    """Items by row, -1 for the unknown item, with these ids."""
    picked = items[np.where(rows < 0, len(items) - 1, rows)]
    return replace(picked, id=torch.from_numpy(ids).to(picked.id.device))
