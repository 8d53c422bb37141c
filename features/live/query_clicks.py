"""Clicks after queries in memory, and the vectors of queries, for `features/queries.py`."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.live.user_histories import Context, Done, Exposure
from features.queries import MOST, ORDER, QUERY_AT, QueryClicks, query_vectors
from features.similarity_kernels import lengths
from features.state import MomentState
from features.state.entities import Entities

Vectors = NDArray[np.int16]
Ints = NDArray[np.int64]
WAITING = 20_000
"""Queries whose vectors are kept for a click to come."""


class LiveQueries:
    """The clicks after queries, first those of `state`. `vectors`: `schemas.ItemVectors` with those of its queries."""

    def __init__(self, state: MomentState, vectors: pl.DataFrame) -> None:
        self._state, self._clicks = state, state.query_clicks
        self._numbers = Entities()
        """The queries of `_clicks` and the newest others."""
        self._vectors: Vectors = np.zeros((0, 1), np.int16)
        """By number; zeros for a query without a vector, and in the spare rows at the end."""
        self._length: Ints = np.zeros(0, np.int64)
        """The squares of the vectors' lengths."""
        self._past: QueryClicks | None = None
        self.learn(vectors)

    def learn(self, vectors: pl.DataFrame) -> None:
        """Add the vectors of queries that have none yet."""
        of_queries = vectors.filter(pl.col("known_at") == QUERY_AT)
        numbers = self._numbered(of_queries["item_id"])
        fresh = self._length[numbers] == 0
        if fresh.any():
            whole = query_vectors(of_queries["item_id"].filter(pl.Series(fresh)), of_queries)
            if whole.shape[1] != self._vectors.shape[1]:  # No vector was known before.
                self._vectors = np.zeros((self._length.size, whole.shape[1]), np.int16)
            self._vectors[numbers[fresh]], self._length[numbers[fresh]] = whole, lengths(whole)

    def query_of(self, context: Context) -> str | None:
        """The query in a context."""
        return next((value for name, value in context if name == self._state.config.context.query), None)

    def add(self, placed: Sequence[tuple[Done, Exposure | None]]) -> None:
        """Add interactions with the exposures that they belong to."""
        gains = self._state.config.labels.gains
        rows = [
            (done.user, query, done.item, done.at)
            for done, exposure in placed
            if gains.get(done.kind, 0.0) > 0 and exposure and (query := self.query_of(exposure.context))
        ]
        if rows:
            clicks = pl.DataFrame(rows, self._clicks.columns, orient="row").cast(self._clicks.schema)
            self._clicks, self._past = pl.concat([self._clicks, clicks]).sort(ORDER), None

    def start_slice(self) -> None:
        """Drop what no later request looks at."""
        self._clicks, self._past = self._clicks.tail(MOST), None
        clicked, ids = self._numbered(self._clicks["query"]), self._numbers.ids
        kept = np.arange(len(ids)) >= len(ids) - WAITING
        kept[clicked] = True
        rows = np.flatnonzero(kept)
        self._numbers = Entities([ids[row] for row in rows])
        self._vectors, self._length = self._vectors[rows], self._length[rows]

    def forget(self, user: str) -> None:
        """Drop a user's clicks."""
        self._clicks, self._past = self._clicks.filter(pl.col("user_id") != user), None

    def match(
        self, at: int, item: Ints, version: Ints, items: tuple[Vectors, Ints], query: str | None
    ) -> NDArray[np.float64]:
        """`queries.COLUMNS` of one impression's candidates."""
        if self._past is None:
            self._past = QueryClicks(self._clicks, self._numbered(self._clicks["query"]), self._state)
        own = np.array([-1]) if query is None else self._numbered(pl.Series([query]))
        return self._past.match(
            np.array([at]), np.array([0, item.size]), item, version, items, own,
            np.array([len(query or "")], float), self._vectors, self._length,
        )  # fmt: skip

    def _numbered(self, queries: pl.Series) -> Ints:
        """Number of each query; new ones get rows."""
        numbers, size = self._numbers.encode(queries), self._length.size
        if len(self._numbers) > size:
            more = max(size, len(self._numbers) - size, 64)
            self._vectors = np.pad(self._vectors, ((0, more), (0, 0)))
            self._length = np.pad(self._length, (0, more))
        return numbers
