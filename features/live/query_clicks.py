"""Clicks after queries in memory, and the vectors of queries, for `features/queries.py`."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.live.user_histories import Context, Done, Exposure
from features.queries import MOST, ORDER, QUERY_AT, QueryClicks, query_vectors
from features.schemas import ItemVectors
from features.state import MomentState

Ints = NDArray[np.int64]
WAITING = 20_000
"""Queries whose vectors are kept for a click to come."""


class LiveQueries:
    """The clicks that followed a query. `state`: its entities and project; `vectors`: with the queries of the state."""

    def __init__(self, state: MomentState, vectors: pl.DataFrame) -> None:
        self._state, self._clicks = state, state.query_clicks
        self._vectors: pl.DataFrame = ItemVectors.create_empty()
        """Of the queries in `query_clicks` and the newest others."""
        self._past: QueryClicks | None = None
        self.learn(vectors)

    def learn(self, vectors: pl.DataFrame) -> None:
        """Add the vectors of queries that are not known yet."""
        of_queries = vectors.filter(pl.col("known_at") == QUERY_AT)
        fresh = of_queries.join(self._vectors, on="item_id", how="anti")
        if fresh.height:
            self._vectors = pl.concat([self._vectors, fresh])

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
        clicked = pl.col("item_id").is_in(self._clicks["query"].implode())
        self._vectors = self._vectors.filter(clicked | (pl.int_range(pl.len()) + WAITING >= pl.len()))

    def forget(self, user: str) -> None:
        """Drop a user's clicks."""
        self._clicks, self._past = self._clicks.filter(pl.col("user_id") != user), None

    def match(
        self, at: int, item: Ints, version: Ints, items: tuple[NDArray[np.int16], Ints], query: str | None
    ) -> NDArray[np.float64]:
        """`queries.COLUMNS` of one impression's candidates."""
        if self._past is None:
            self._past = QueryClicks(self._clicks, self._state, self._vectors)
        texts = pl.Series([] if query is None else [query], dtype=pl.String)
        own = self._vectors.filter(pl.col("item_id").is_in(texts.implode()))
        return self._past.match(
            np.array([at]), np.array([0, item.size]), item, version, items, np.array([len(texts) - 1]), texts,
            query_vectors(texts, own),
        )  # fmt: skip
