"""Text vectors of item versions in memory, and the running mean of the texts shown, for `features/similarity.py`."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.similarity import shown_sum, whole_vectors
from features.similarity_kernels import UNIT, lengths, running_means, similarities
from features.state.descriptions import Descriptions

Ints = NDArray[np.int64]
_NOTHING = np.zeros(0, np.int64)


class LiveTexts:
    """Vectors of `described.found`, row by row; sum and number of the texts shown."""

    def __init__(self, described: Descriptions, exposed: pl.DataFrame, vectors: pl.DataFrame) -> None:
        """`exposed`: `MomentState.exposed`. `vectors`: `schemas.ItemVectors` of both."""
        self._described = described
        self._vectors: NDArray[np.int16]
        self._length: Ints
        self._keep(whole_vectors(described.found, vectors))
        self._total, self._times = shown_sum(exposed, vectors)

    def show(self, version: Ints) -> None:
        """Add versions that were shown; -1 is an unknown one."""
        rows = version[version >= 0]
        rows = rows[self._length[rows] > 0]
        self._total += self._vectors[rows].sum(axis=0, dtype=np.int64)
        self._times += rows.size

    def replace(self, described: Descriptions, vectors: pl.DataFrame | None) -> None:
        """Replace the item versions. `vectors`: of the new ones."""
        before = self._described.found.select("item_id", "known_at").with_row_index("row")
        rows = described.found.select("item_id", "known_at").join(
            before, on=["item_id", "known_at"], how="left", maintain_order="left"
        )["row"]
        added = None if vectors is None or vectors.is_empty() else whole_vectors(described.found, vectors)
        width = self._vectors.shape[1] if added is None else added.shape[1]
        if width != self._total.size:  # the first texts of all
            self._vectors = np.zeros((self._vectors.shape[0], width), np.int16)
            self._total = np.zeros(width, np.int64)
        kept = np.vstack([self._vectors, np.zeros((1, width), np.int16)])[
            rows.fill_null(self._vectors.shape[0]).to_numpy()
        ]
        if added is not None:
            fresh = np.flatnonzero(added.any(axis=1))
            kept[fresh] = added[fresh]
        self._described = described
        self._keep(kept)

    def similarity(
        self,
        at: int,
        version: Ints,
        item: Ints,
        since: Ints,
        skipped: NDArray[np.bool_],
        most: int,
        forget: int,
    ) -> NDArray[np.float64]:
        """`similarity.COLUMNS` of one impression's candidates, for a user with these moments, oldest first."""
        one, ends = np.array([at]), np.array([0, version.size])
        return similarities(
            one, ends, version, self._mean(at), self._vectors, self._length, *self._described.by_item(),
            np.zeros(1, np.int64), np.array([item.size]), item, since, skipped, most, forget,
        )  # fmt: skip

    def _mean(self, at: int) -> NDArray[np.int16]:
        if self._times:
            return np.rint(self._total / self._times).astype(np.int16)[None]
        return running_means(
            np.array([at]), np.zeros(2, np.int64), _NOTHING, self._vectors, self._length,
            *self._described.arrivals(), self._total, 0,
        )  # fmt: skip

    @property
    def rows(self) -> tuple[NDArray[np.int16], Ints]:
        """Vectors of `described.found` and the squares of their lengths."""
        return self._vectors, self._length

    def _keep(self, vectors: NDArray[np.int16]) -> None:
        self._vectors, self._length = vectors, lengths(vectors)
        self.units: NDArray[np.float32] = (vectors / UNIT).astype(np.float32)
        """Unit vectors; zeros without text."""
