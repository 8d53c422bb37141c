"""The items that a request without candidates ranks: fresh, popular, similar to recent clicks and to the query."""

from collections.abc import Collection, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.events.point_in_time import BORN_AT, latest
from features.live import LiveMoments, Past
from features.state.histories import SKIPPED
from models.candidate_pool import most_clicked, newest

_REFRESH = 1_000_000
"""Microseconds after which fresh and popular items are computed again."""
_LISTED = 2_000
"""Number of fresh, and of popular, items kept."""


class Pool:
    """Draws candidates. Fresh and popular items are computed once a second."""

    def __init__(self, live: LiveMoments, size: int) -> None:
        """`size`: `lists.pool`."""
        self._live, self._size = live, size
        self._at = -_REFRESH
        self._fresh: list[str] = []
        self._popular: list[str] = []
        self.trending: pl.DataFrame = pl.DataFrame()
        """`item_id, title, attributes, clicks, exposures`, the most clicked first."""

    def draw(
        self, past: Past, at: int, leave_out: Collection[str], near_to: NDArray[np.float32] | None
    ) -> list[str]:
        """At most `lists.pool` items known before `at`, without clicked ones: a third each fresh, popular and similar.

        Similar items are those nearest in text to the user's clicks and to the vector `near_to`.
        """
        self.refresh(at)
        clicked = [item for item, action in zip(past.items, past.actions, strict=True) if action != SKIPPED]
        gone = {*clicked, *leave_out}
        share = -(-self._size // 3)
        near = [item for item in self._near(clicked, at, near_to, share + len(gone)) if item not in gone][
            :share
        ]
        shared = [
            item
            for listed in (self._popular, self._fresh)
            for item in [item for item in listed if item not in gone][:share]
        ]
        drawn = list(dict.fromkeys([*near, *shared]))
        rest = [item for item in self._fresh if item not in gone]
        return list(dict.fromkeys([*drawn, *rest]))[: self._size]

    def similar(self, item: str, at: int, count: int) -> list[tuple[str, float]]:
        """The items most similar in text, with their cosine."""
        row = int(self._live.versions_of([item], at)[0])
        if row < 0:
            return []
        near = self._nearest(self._live.texts.units[row], count + 1)
        return [(other, cosine) for other, cosine in near if other != item][:count]

    def _near(
        self, clicked: Sequence[str], at: int, near_to: NDArray[np.float32] | None, count: int
    ) -> list[str]:
        rows = self._live.versions_of(clicked, at)
        vectors = self._live.texts.units[rows[rows >= 0]]
        vectors = vectors[vectors.any(axis=1)]
        wanted = [*([vectors.mean(axis=0)] if len(vectors) else []), *([] if near_to is None else [near_to])]
        return [item for vector in wanted for item, _ in self._nearest(vector, count)]

    def _nearest(self, vector: NDArray[np.float32], count: int) -> list[tuple[str, float]]:
        units = self._live.texts.units
        near = np.where(units.any(axis=1), units @ vector, -2.0)
        ids = self._live.described.found["item_id"]
        best = np.argsort(-near, kind="stable")[: 2 * count]
        cosines: dict[str, float] = {}
        for row in best[near[best] > -2.0].tolist():
            cosines.setdefault(ids[row], float(near[row]))  # of an item's versions, the nearest
        return [*cosines.items()][:count]

    def refresh(self, at: int) -> None:
        """Compute the fresh and popular items, unless that was done less than a second before or after `at`."""
        if abs(at - self._at) < _REFRESH:
            return
        self._at = at
        items = latest(self._live.described.found)
        born = items.select("item_id", born_at=BORN_AT)
        self._fresh = newest(born)["item_id"].head(_LISTED).to_list()
        described = items.select("item_id", "title", "attributes")
        self.trending = most_clicked(self._live.counts("item"), described)
        self._popular = self.trending["item_id"].head(_LISTED).to_list()
