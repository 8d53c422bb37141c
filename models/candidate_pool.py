"""Candidate pools of users: new items, popular items, and items similar in text to the user's clicks."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import polars as pl

from features.events.point_in_time import BORN_AT
from features.queries import query_vectors
from features.schemas import INSTANT, Impressions
from features.similarity import whole_vectors
from features.sources.raw import with_positions
from features.state import MomentState
from features.state.histories import SKIPPED
from models.ranking import top


def draw(
    state: MomentState, users: Sequence[str], vectors: pl.DataFrame, size: int, at: datetime
) -> pl.DataFrame:
    """A request per user, as `schemas.Impressions`: at most `size` items known before `at`.

    A third each are the newest items, the most clicked, and the most similar in text to the user's recent clicks. Items
    that the user clicked are left out. Positions are arbitrary and must not be read.
    """
    fresh, popular, similar = ((size + extra) // 3 for extra in (2, 1, 0))
    items = state.items.select("item_id", born_at=BORN_AT)
    clicked_most = most_clicked(state.counts("item"), state.items.select("item_id"))
    shared = pl.concat(
        [listed.select("item_id") for listed in (newest(items).head(fresh), clicked_most.head(popular))]
    )
    shared = shared.unique()
    user_ids = pl.DataFrame({"user_id": users}, schema={"user_id": pl.String})
    pool = pl.concat([user_ids.join(shared, how="cross"), _similar(state, users, vectors, similar)]).unique()
    clicked = state.moments.filter(pl.col("action") != SKIPPED).select("user_id", "item_id")
    return _requests(pool.join(clicked, on=["user_id", "item_id"], how="anti"), at)


def draw_for_query(
    state: MomentState, user: str, query: str, vectors: pl.DataFrame, size: int, at: datetime
) -> pl.DataFrame:
    """A user's request with a query, as `schemas.Impressions`: the `size` items most similar to it in text.

    `vectors` have the query. Items that the user clicked stay: a question may come again.
    """
    texts = whole_vectors(state.items, vectors).astype(np.float32)
    near = texts @ query_vectors(pl.Series([query]), vectors)[0].astype(np.float32)
    scored = state.items.select("item_id", user_id=pl.lit(user)).with_columns(score=pl.Series(near))
    pool = top(scored, size, by="user_id").select("user_id", "item_id")
    typed = [{"name": state.config.context.query, "value": query}]
    requests = _requests(pool, at)
    return requests.with_columns(context=pl.Series([typed], dtype=requests.schema["context"]))


def _requests(pool: pl.DataFrame, at: datetime) -> pl.DataFrame:
    """A request per user of the candidates in `pool`: `user_id, item_id`."""
    return Impressions.validate(
        pool.sort("user_id", "item_id")
        .group_by("user_id", maintain_order=True)
        .agg("item_id")
        .select(
            impression_id="request:" + pl.col("user_id"),
            user_id="user_id",
            shown_at=pl.lit(at, INSTANT),
            session_id=pl.lit(None, pl.String),
            context=pl.lit([], Impressions.create_empty().schema["context"]),
            candidates=with_positions(pl.col("item_id")),
        )
    )


def newest(items: pl.DataFrame) -> pl.DataFrame:
    """Items (`item_id, born_at`), the newest first."""
    return items.sort("born_at", "item_id", descending=[True, False])


def most_clicked(counts: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """`items` with `clicks` and `exposures`, decayed by the shortest half-life; the most clicked first.

    `counts`: the item counters, as `MomentState.counts` gives them. Items without an entry are left out.
    """
    clicks = next(name for name in counts.columns if name.startswith("clicks_"))
    exposures = clicks.replace("clicks", "exposures", 1)
    counted = items.join(counts.select("item_id", clicks=clicks, exposures=exposures), on="item_id")
    return counted.sort("clicks", "item_id", descending=[True, False])


def _similar(state: MomentState, users: Sequence[str], vectors: pl.DataFrame, count: int) -> pl.DataFrame:
    """`user_id, item_id`: the items most similar to the mean vector of the user's clicks, without those clicked."""
    current = state.items.select("item_id", "known_at").join(vectors, on=["item_id", "known_at"])
    if current.is_empty():
        return pl.DataFrame(schema={"user_id": pl.String, "item_id": pl.String})
    matrix = np.array(current["vector"].to_list(), np.float32)
    row = dict(zip(current["item_id"], range(current.height), strict=True))
    clicked = state.moments.filter((pl.col("action") != SKIPPED) & pl.col("user_id").is_in(list(users)))
    similar = []
    for (user,), moments in clicked.group_by("user_id", maintain_order=True):
        rows = [row[item] for item in moments["item_id"] if item in row]
        if rows:
            score = pl.Series("score", matrix @ matrix[rows].mean(axis=0))
            scored = current.select("item_id", score, user_id=pl.lit(str(user)))
            scored = scored.filter(~pl.col("item_id").is_in(moments["item_id"].implode()))
            similar.append(top(scored, count, by="user_id").select("user_id", "item_id"))
    return (
        pl.concat(similar) if similar else pl.DataFrame(schema={"user_id": pl.String, "item_id": pl.String})
    )
