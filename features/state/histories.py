"""Each user's histories: lists not yet left, and recent moments (interactions and skips)."""

from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.config.project import Project
from features.state.moment import MomentState, SliceEvents

SKIPPED = "passed"
"""Action of a moment in which an item was shown and not acted on when its list was left."""
DEEPEST = 100
"""Positions below are counted as this one."""
_INSTANT = pl.Datetime("us", "UTC")


class Skips:
    """Candidates of lists that were open when a slice began, or were shown in it, and got no interaction."""

    def __init__(self, state: MomentState, events: SliceEvents) -> None:
        """`events` are `layout.in_order`."""
        self._state, self._events = state, events

    @cached_property
    def left(self) -> pl.DataFrame:
        """`state.open`'s columns and `left_at`: the user's next list, or the end of the attribution window.

        That an item was skipped is known just before the next list is shown, so that this list may use it.
        """
        from features.state.kernels import NEVER, next_lists

        project, events = self._state.project, self._events
        rows = pl.concat([self._state.open, _opened(events.impressions, project)])
        lists = rows.select("impression_id", "user_id", "shown_at").unique(maintain_order=True)
        following = events.impressions.select("impression_id", "user_id", "shown_at")
        known = (
            pl.concat([lists, following]).unique(maintain_order=True).sort("shown_at", maintain_order=True)
        )
        user = known["user_id"].cast(pl.Categorical(pl.Categories.random())).to_physical().to_numpy()
        upcoming = next_lists(
            user.astype(np.int64), known["shown_at"].to_physical().to_numpy(), user.max(initial=0) + 1
        )
        next_at = pl.Series(upcoming).replace(NEVER, None).cast(_INSTANT) - timedelta(microseconds=1)
        known = known.select("impression_id", "user_id", next_at=next_at)
        left = pl.min_horizontal("next_at", pl.col("shown_at") + project.labels.attribution)
        rows = rows.join(known, on=["impression_id", "user_id"], how="left", maintain_order="left")
        return self._untouched(rows.with_columns(left_at=left).drop("next_at"))

    def _untouched(self, rows: pl.DataFrame) -> pl.DataFrame:
        done = self._events.interactions.select("user_id", "item_id", "known_at")
        within = pl.col("known_at").is_between(pl.col("shown_at"), pl.col("left_at"))
        acted = rows.join(done, on=["user_id", "item_id"]).filter(within).select("impression_id", "item_id")
        return rows.join(acted.unique(), on=["impression_id", "item_id"], how="anti", maintain_order="left")

    def still_open(self, until: datetime) -> pl.DataFrame:
        """What `state.open` is at `until`."""
        return self.left.filter(pl.col("left_at") >= until).drop("left_at")


def _opened(impressions: pl.DataFrame, project: Project) -> pl.DataFrame:
    """`state.open` of new lists: the candidates down to `skips_per_impression`."""
    rows = exposed(impressions).filter(pl.col("position") <= project.features.skips_per_impression)
    return rows.select("impression_id", "user_id", "item_id", "position", "shown_at")


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
    return pl.concat([state.moments, _new(Skips(state, events), events, project)]).sort(_ORDER)


_ORDER = ("user_id", "known_at", "item_id", "action")


def _new(skips: Skips, events: SliceEvents, project: Project) -> pl.DataFrame:
    done = events.interactions.filter(pl.col("kind").is_in(list(project.labels.gains))).select(
        "user_id", "item_id", action="kind", known_at="known_at"
    )
    passed = skips.left.select("user_id", "item_id", action=pl.lit(SKIPPED), known_at="left_at")
    return pl.concat([done, passed])


def remembered(state: MomentState, skips: Skips, events: SliceEvents, until: datetime) -> pl.DataFrame:
    """What `state.moments` is at `until`: the newest of each user, and none older than `ttl`.

    Clicks are rarer than skips and must not be crowded out: each has its own allowance.
    """
    from features.state.kernels import newest

    declared = state.project.features
    recent = pl.col("known_at").is_between(until - declared.ttl, until, closed="left")
    kept = state.moments.filter(recent)
    # A skip may have become known just before the slice. What is older comes before all that is new, and is in order.
    close = pl.col("known_at") >= state.at - timedelta(microseconds=1)
    fresh = pl.concat([kept.filter(close), _new(skips, events, state.project).filter(recent)]).sort(_ORDER)
    kept = kept.filter(~close)
    users = pl.concat([rows["user_id"].rle().struct.field("value") for rows in (kept, fresh)]).unique().sort()
    old, new = (_runs(rows["user_id"], users) for rows in (kept, fresh))
    is_skip = [(rows["action"] == SKIPPED).to_numpy() for rows in (kept, fresh)]
    chosen = newest(old, new, is_skip[0], is_skip[1], declared.max_history, declared.text_history)
    return pl.concat([kept, fresh])[chosen]


def _runs(ids: pl.Series, known: pl.Series) -> NDArray[np.int64]:
    """Where each id of a column in order stands among all ids, in order too."""
    runs = ids.rle().struct.unnest()
    return np.repeat(known.search_sorted(runs["value"]).to_numpy().astype(np.int64), runs["len"].to_numpy())


def still_answerable(state: MomentState, events: SliceEvents, until: datetime) -> pl.DataFrame:
    """What `state.shown` is at `until`: candidates that an interaction may still answer, in order of time."""
    recent = pl.col("shown_at") >= until - state.project.labels.attribution
    return exposures_of(state.shown.filter(recent), events.impressions.filter(recent), state.project)


def explode(impressions: pl.DataFrame) -> pl.DataFrame:
    """`item_id, position` of each candidate in the order shown."""
    return impressions.select(pl.col("candidates").explode(empty_as_null=False)).unnest("candidates")


def exposures_of(earlier: pl.DataFrame, impressions: pl.DataFrame, project: Project) -> pl.DataFrame:
    """`user_id, item_id, position, context, shown_at` of candidates, in order of time: those earlier, and new ones."""
    sizes = impressions["candidates"].list.len()
    lists = pl.int_range(impressions.height, eager=True).repeat_by(sizes).explode(empty_as_null=False)
    shown = impressions.select("user_id", "context", "shown_at")[lists]
    candidates = explode(impressions).with_columns(pl.col("position").clip(upper_bound=DEEPEST))
    return pl.concat([earlier, pl.concat([shown, candidates], how="horizontal").select(earlier.columns)])
