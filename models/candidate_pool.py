"""Which items a user's list is drawn from: fresh, popular, and near in text to what the user took."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import polars as pl

from features.config.project import Project
from features.schemas import Impressions
from features.state import MomentState
from features.state.histories import SKIPPED
from models.ranking import top


def draw(
    state: MomentState, users: Sequence[str], vectors: pl.DataFrame, project: Project, at: datetime
) -> pl.DataFrame:
    """A request for each user, as `schemas.Impressions`: at most `lists.pool` items known before `at`.

    A third each of the newest, the most taken and the nearest in text to what the user lately took; what a
    user already took is left out. Positions are arbitrary: nothing may read them.
    """
    fresh, popular, near = ((project.lists.pool + extra) // 3 for extra in (2, 1, 0))
    known = state.items.select("item_id", born_at=pl.coalesce("published_at", "known_at"))
    shared = pl.concat([_fresh(known, fresh), _popular(state, popular)]).unique()
    everyone = pl.DataFrame({"user_id": users}, schema={"user_id": pl.String})
    pool = pl.concat([everyone.join(shared, how="cross"), _near(state, users, vectors, near)]).unique()
    taken = state.moments.filter(pl.col("action") != SKIPPED).select("user_id", "item_id")
    return Impressions.validate(
        pool.join(taken, on=["user_id", "item_id"], how="anti")
        .sort("user_id", "item_id")
        .group_by("user_id", maintain_order=True)
        .agg(candidates=pl.struct("item_id", position=pl.int_range(1, pl.len() + 1, dtype=pl.Int32)))
        .select(
            impression_id="request:" + pl.col("user_id"),
            user_id="user_id",
            shown_at=pl.lit(at, pl.Datetime("us", "UTC")),
            session_id=pl.lit(None, pl.String),
            context=pl.lit([], Impressions.create_empty().schema["context"]),
            candidates="candidates",
        )
    )


def _fresh(known: pl.DataFrame, share: int) -> pl.DataFrame:
    return known.sort("born_at", "item_id", descending=[True, False]).head(share).select("item_id")


def _popular(state: MomentState, share: int) -> pl.DataFrame:
    counts = state.counts("item")
    clicks = next(name for name in counts.columns if name.startswith("clicks_"))
    counted = counts.join(state.items.select("item_id"), on="item_id")
    return counted.sort(clicks, "item_id", descending=[True, False]).head(share).select("item_id")


def _near(state: MomentState, users: Sequence[str], vectors: pl.DataFrame, share: int) -> pl.DataFrame:
    """`user_id, item_id`: the items not yet taken that are nearest to the mean vector of what the user took."""
    current = state.items.select("item_id", "known_at").join(vectors, on=["item_id", "known_at"])
    if current.is_empty():
        return pl.DataFrame(schema={"user_id": pl.String, "item_id": pl.String})
    matrix = np.array(current["vector"].to_list(), np.float32)
    row = dict(zip(current["item_id"], range(current.height), strict=True))
    taken = state.moments.filter((pl.col("action") != SKIPPED) & pl.col("user_id").is_in(list(users)))
    found = []
    for (user,), moments in taken.group_by("user_id", maintain_order=True):
        rows = [row[item] for item in moments["item_id"] if item in row]
        if rows:
            likeness = pl.Series("score", matrix @ matrix[rows].mean(axis=0))
            listed = current.select("item_id", likeness, user_id=pl.lit(str(user)))
            listed = listed.filter(~pl.col("item_id").is_in(moments["item_id"].implode()))
            found.append(top(listed, share, by="user_id").select("user_id", "item_id"))
    return pl.concat(found) if found else pl.DataFrame(schema={"user_id": pl.String, "item_id": pl.String})
