"""Each user's histories: open impressions, and recent moments (interactions and skips)."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.schemas import INSTANT
from features.state.moment import MomentState, SliceEvents

SKIPPED = "skipped"
"""Action of a skip: the item was shown and had no interaction when its impression closed."""
DEEPEST = 100
"""Deeper positions count as this one."""


class Skips:
    """Candidates without interaction, of impressions that were open at the start of a slice or shown in it."""

    def __init__(self, state: MomentState, events: SliceEvents) -> None:
        """`events` are `layout.in_order`."""
        self._state, self._events = state, events

    @cached_property
    def closed(self) -> pl.DataFrame:
        """Columns of `state.open`, and `closed_at`: when the user's next impression or the window's end closes it.

        The skip is known one microsecond before the next impression, so that this impression may use it.
        """
        from features.state.kernels import NEVER, next_lists

        config, events, opened = self._state.config, self._events, self._state.open
        names = ["impression_id", "user_id", "shown_at"]
        lists = pl.concat(
            [opened.select(names).unique(maintain_order=True), events.impressions.select(names)]
        )
        lists = lists.with_row_index("n").sort("shown_at", maintain_order=True)
        user = lists["user_id"].cast(pl.Categorical(pl.Categories.random())).to_physical().to_numpy()
        upcoming = next_lists(
            user.astype(np.int64),
            lists["shown_at"].to_physical().to_numpy(writable=True),
            user.max(initial=0) + 1,
        )
        next_at = pl.Series(upcoming).replace(NEVER, None).cast(INSTANT) - timedelta(microseconds=1)
        ends = pl.min_horizontal(next_at, pl.col("shown_at") + config.labels.attribution)
        lists = lists.select("n", "impression_id", "user_id", closed_at=ends).sort("n")
        most = config.features.skips_per_impression
        # Candidates are in the order shown: those beyond the top positions need no row.
        shown = events.impressions.with_columns(
            pl.col("candidates").list.head(most), lists["closed_at"].tail(events.impressions.height)
        )
        within = pl.col("position") <= most
        opened = opened.join(
            lists.drop("n").head(lists.height - shown.height),
            on=["impression_id", "user_id"],
            maintain_order="left",
        )
        rows = pl.concat([opened, exposed(shown, "closed_at").filter(within)]).with_row_index("n")
        done = events.interactions.select("user_id", "item_id", "known_at")
        acted = rows.join(done, on=["user_id", "item_id"]).filter(
            pl.col("known_at").is_between(pl.col("shown_at"), pl.col("closed_at"))
        )
        return rows.remove(pl.col("n").is_in(acted["n"].implode())).drop("n")

    def still_open(self, until: datetime) -> pl.DataFrame:
        """`state.open` as of `until`."""
        return self.closed.filter(pl.col("closed_at") >= until).drop("closed_at")


def exposed(impressions: pl.DataFrame, *more: str) -> pl.DataFrame:
    """One row per (impression, candidate): `impression_id, user_id, item_id, position, shown_at`, and `more`."""
    return impressions.select("impression_id", "user_id", "shown_at", "candidates", *more).explode(
        "candidates", empty_as_null=False
    ).select(
        "impression_id",
        "user_id",
        item_id=pl.col("candidates").struct.field("item_id"),
        position=pl.col("candidates").struct.field("position"),
        shown_at=pl.col("shown_at"),
        **{name: pl.col(name) for name in more},
    )  # fmt: skip


def moments(state: MomentState, events: SliceEvents) -> pl.DataFrame:
    """`schemas.Moments` of the state and of the slice's events, by user, time, item and action."""
    return pl.concat([state.moments, _new(Skips(state, events), events, state.config.labels.gains)]).sort(
        _ORDER
    )


_ORDER = ("user_id", "known_at", "item_id", "action")


def _new(skips: Skips, events: SliceEvents, gains: Iterable[str]) -> pl.DataFrame:
    done = events.interactions.filter(pl.col("kind").is_in(list(gains))).select(
        "user_id", "item_id", action="kind", known_at="known_at"
    )
    skipped = skips.closed.select("user_id", "item_id", action=pl.lit(SKIPPED), known_at="closed_at")
    return pl.concat([done, skipped])


def remembered(state: MomentState, skips: Skips, events: SliceEvents, until: datetime) -> pl.DataFrame:
    """`state.moments` as of `until`: each user's newest moments, none older than `ttl`.

    Skips must not displace the rarer clicks: `text_history` of each are kept.
    """
    from features.state.kernels import newest

    config = state.config.features
    recent = pl.col("known_at").is_between(until - config.ttl, until, closed="left")
    old = state.moments.filter(recent)
    # A new skip may be known one microsecond before the slice: sort it among the old moments of that microsecond.
    # Earlier moments are sorted and precede all new ones.
    close = pl.col("known_at") >= state.at - timedelta(microseconds=1)
    new = pl.concat([old.filter(close), _new(skips, events, state.config.labels.gains).filter(recent)]).sort(
        _ORDER
    )
    old = old.filter(~close)
    users = pl.concat([rows["user_id"].rle().struct.field("value") for rows in (old, new)]).unique().sort()
    old_users, new_users = (_ranks(rows["user_id"], users) for rows in (old, new))
    old_skips, new_skips = ((rows["action"] == SKIPPED).to_numpy() for rows in (old, new))
    rows = newest(old_users, new_users, old_skips, new_skips, config.max_history, config.text_history)
    return pl.concat([old, new])[rows]


def _ranks(ids: pl.Series, all_ids: pl.Series) -> NDArray[np.int64]:
    """Index in `all_ids` of each id; both are sorted."""
    runs = ids.rle().struct.unnest()
    return np.repeat(all_ids.search_sorted(runs["value"]).to_numpy().astype(np.int64), runs["len"].to_numpy())


def still_answerable(state: MomentState, events: SliceEvents, until: datetime) -> pl.DataFrame:
    """`state.shown` as of `until`: candidates shown within the attribution window, in order of time."""
    recent = pl.col("shown_at") >= until - state.config.labels.attribution
    earlier, impressions = state.shown.filter(recent), events.impressions.filter(recent)
    sizes = impressions["candidates"].list.len()
    lists = pl.int_range(impressions.height, eager=True).repeat_by(sizes).explode(empty_as_null=False)
    shown = impressions.select("user_id", "context", "shown_at")[lists]
    candidates = explode(impressions).with_columns(pl.col("position").clip(upper_bound=DEEPEST))
    return pl.concat([earlier, pl.concat([shown, candidates], how="horizontal").select(earlier.columns)])


def explode(impressions: pl.DataFrame) -> pl.DataFrame:
    """`item_id, position` of each candidate, in the order shown."""
    candidates = impressions.select(pl.col("candidates").explode(empty_as_null=False))
    return candidates.select(pl.col("candidates").struct.field("item_id", "position"))
