"""Features of a query: how near the candidate's text is to it, and what users clicked after similar queries.

The state keeps the newest clicks that followed a query (`MomentState.query_clicks`). A row uses those known strictly
before its impression. A query's vector is a row of `schemas.ItemVectors`: the query is its id, `QUERY_AT` its time.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.similarity import layout_texts, whole_vectors
from features.state.entities import Entities
from features.state.moment import MomentState

if TYPE_CHECKING:
    from features.config.sections import Context
    from features.state.layout import Layout

Vectors = NDArray[np.int16]
Ints = NDArray[np.int64]
COLUMNS = ("match", "past_max", "past_share", "item_clicks", "clicks", "length")
"""Similarity to the candidate, greatest similarity to a query that led to a click on it, share of the clicks after the
nearest queries, clicks after this very query on the candidate and on any item, length in characters."""
QUERY_AT = datetime(1, 1, 1, tzinfo=UTC)
MOST = 10_000
"""Clicks that are remembered, the newest."""
NEAREST = 10
"""Clicks after the most similar queries that vote for their items."""
ORDER = ("known_at", "user_id", "query", "item_id")
"""Order of the clicks: of one instant's equally similar clicks, the last ones vote."""


def query_of(impressions: pl.DataFrame, context: "Context") -> pl.Series:
    """The query of each row of a table with a column `context`; null without one."""
    pair = pl.element().struct
    return impressions.select(
        pl.col("context")
        .list.eval(pair.field("value").filter(pair.field("name") == context.query))
        .list.first()
        .alias("query")
    ).to_series()


def queries(state: MomentState, impressions: pl.DataFrame) -> pl.Series:
    """The distinct queries whose vectors a pass over these impressions needs."""
    shown = [query_of(rows, state.config.context) for rows in (impressions, state.shown)]
    return pl.concat([*shown, state.query_clicks["query"]]).drop_nulls().unique(maintain_order=True)


def clicks_after_queries(interactions: pl.DataFrame, state: MomentState) -> pl.DataFrame:
    """`MomentState.query_clicks` of interactions from `layout.place`."""
    positive = [kind for kind, gain in state.config.labels.gains.items() if gain > 0]
    rows = interactions.with_columns(query_of(interactions, state.config.context))
    rows = rows.filter(pl.col("query").is_not_null() & pl.col("kind").is_in(positive))
    return rows.select(state.query_clicks.columns)


def kept_query_clicks(state: MomentState, layout: "Layout", until: datetime) -> pl.DataFrame:
    """`state.query_clicks` as of `until`: the newest clicks after a query, none older than `ttl`."""
    rows = _past(state, layout).filter(pl.col("known_at") < until)
    return rows.filter(pl.col("known_at") >= until - state.config.features.ttl).tail(MOST)


def query_matches(state: MomentState, layout: "Layout", vectors: pl.DataFrame) -> NDArray[np.float64]:
    """The `COLUMNS`, [column, candidate of the layout]; NaN without a query, text or past."""
    from features.similarity_kernels import lengths

    texts, numbers = query_of(layout.impressions, state.config.context), Entities()
    clicks = _past(state, layout)
    past = QueryClicks(clicks, numbers.encode(clicks["query"]), state)
    query = np.full(len(texts), -1)
    query[texts.is_not_null().to_numpy()] = numbers.encode(texts.drop_nulls())
    queries = query_vectors(pl.Series(numbers.ids, dtype=pl.String), vectors)
    return past.match(
        layout.at, layout.start, layout.item, layout.version, layout_texts(state, layout, vectors),
        query, texts.str.len_chars().fill_null(0).cast(pl.Float64).to_numpy(writable=True), queries, lengths(queries),
    )  # fmt: skip


class QueryClicks:
    """Clicks after queries (`MomentState.query_clicks`) as arrays. `query`: the number of each one's query."""

    def __init__(self, clicks: pl.DataFrame, query: Ints, state: MomentState) -> None:
        self._items = state.counted.items
        self._forget = state.config.features.ttl // timedelta(microseconds=1)
        self._at = clicks["known_at"].to_physical().to_numpy(writable=True)
        self._query, self._item = query, self._items.encode(clicks["item_id"])

    def match(
        self, at: Ints, start: Ints, item: Ints, version: Ints, items: tuple[Vectors, Ints], query: Ints,
        characters: NDArray[np.float64], queries: Vectors, query_length: Ints,
    ) -> NDArray[np.float64]:  # fmt: skip
        """`query_kernels.matches` of these lists, after these clicks."""
        from features.query_kernels import matches

        return matches(
            at, start, item, version, *items, query, characters, queries, query_length,
            self._at, self._query, self._item, len(self._items), MOST, NEAREST, self._forget,
        )  # fmt: skip


def query_vectors(texts: pl.Series, vectors: pl.DataFrame) -> Vectors:
    """The queries' vectors as whole numbers, a row each (`similarity.whole_vectors`)."""
    keys = pl.DataFrame({"item_id": texts}, schema={"item_id": pl.String})
    return whole_vectors(keys.with_columns(known_at=pl.lit(QUERY_AT, vectors.schema["known_at"])), vectors)


def _past(state: MomentState, layout: "Layout") -> pl.DataFrame:
    return pl.concat([state.query_clicks, clicks_after_queries(layout.interactions, state)]).sort(ORDER)
