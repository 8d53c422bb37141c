"""Each user's moments: what was taken, and what was passed over when its list was left."""

from datetime import datetime, timedelta

import polars as pl

from features.project import Project
from features.state import MomentState, SliceEvents

PASSED = "passed"
"""Action of a moment in which an item was shown and not taken when its list was left."""


def exposed(impressions: pl.DataFrame) -> pl.DataFrame:
    """One row per (impression, candidate): `impression_id, user_id, item_id, position, shown_at`."""
    return impressions.select("impression_id", "user_id", "shown_at", "candidates").explode(
        "candidates", empty_as_null=False
    ).select(
        "impression_id",
        "user_id",
        item_id=pl.col("candidates").struct.field("item_id"),
        position=pl.col("candidates").struct.field("position"),
        shown_at=pl.col("shown_at"),
    )  # fmt: skip


def moments(state: MomentState, events: SliceEvents, project: Project) -> pl.DataFrame:
    """`schemas.Moments` of every user, remembered and new, sorted by user, then by time, item and action."""
    done = events.interactions.filter(pl.col("kind").is_in(list(project.labels.gains))).select(
        "user_id", "item_id", action="kind", known_at="known_at"
    )
    passed = _not_taken(_left(state, events, project), events.interactions, pl.col("left_at")).select(
        "user_id", "item_id", action=pl.lit(PASSED), known_at="left_at"
    )
    return pl.concat([state.moments, done, passed]).sort("user_id", "known_at", "item_id", "action")


def remembered(state: MomentState, events: SliceEvents, until: datetime, project: Project) -> pl.DataFrame:
    """What `state.moments` is at `until`: the newest of each user, and none that is long ago."""
    lately = pl.col("known_at").is_between(until - project.features.forget_after, until, closed="left")
    found = moments(state, events, project).filter(lately)
    # Clicks are rarer than passes and must not be crowded out: each has its own allowance.
    newest = pl.int_range(pl.len()).reverse()
    return found.filter(
        (newest.over("user_id") < project.features.remembered)
        | (newest.over("user_id", pl.col("action") == PASSED) < project.features.recent)
    )


def still_open(state: MomentState, events: SliceEvents, until: datetime, project: Project) -> pl.DataFrame:
    """What `state.open` is at `until`: candidates of lists not yet left, nor taken."""
    staying = _left(state, events, project).filter(pl.col("left_at") >= until)
    return _not_taken(staying, events.interactions, pl.lit(until)).select(state.open.columns)


def _left(state: MomentState, events: SliceEvents, project: Project) -> pl.DataFrame:
    """Open candidates with `left_at`: when the user asked for the next list, or the attribution window ended.

    That an item was passed over is known just before the next list is shown, so that this list may use it.
    """
    impressions = events.impressions.select("user_id", next_at="shown_at").sort("next_at")
    opened = exposed(events.impressions).filter(pl.col("position") <= project.features.passed_per_list)
    following = pl.col("next_at") - timedelta(microseconds=1)
    return (
        pl.concat([state.open, opened.select(state.open.columns)])
        .sort("shown_at", "impression_id", "position")
        .join_asof(
            impressions,
            left_on="shown_at",
            right_on="next_at",
            by="user_id",
            strategy="forward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .with_columns(left_at=pl.min_horizontal(following, pl.col("shown_at") + project.labels.attribution))
        .drop("next_at")
    )


def _not_taken(rows: pl.DataFrame, interactions: pl.DataFrame, by: pl.Expr) -> pl.DataFrame:
    taken = (
        rows.join(interactions.select("user_id", "item_id", "known_at"), on=["user_id", "item_id"])
        .filter(pl.col("known_at").is_between(pl.col("shown_at"), by))
        .select("impression_id", "item_id")
        .unique()
    )
    return rows.join(taken, on=["impression_id", "item_id"], how="anti", maintain_order="left")
