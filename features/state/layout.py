"""The events of a slice as arrays, in order of (instant, id): impressions, and interactions with their exposures."""

from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.state.counter_tables import Tables
from features.state.counters import kinds_counted
from features.state.descriptions import Descriptions, Values, pairs_of, starts
from features.state.histories import DEEPEST, explode
from features.state.kernels import latest_exposures
from features.state.moment import MomentState, SliceEvents
from features.state.table import Index

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """A slice as arrays. Users, items and values are numbers of the state's entities; `done_*` is of interactions."""

    impressions: pl.DataFrame
    """In order of (shown_at, impression_id)."""
    candidates: pl.DataFrame
    """`item_id, position` of each candidate, by impression."""
    described: Descriptions
    at: Ints
    """Instant of each impression."""
    start: Ints
    """First candidate of each impression, ending with the number of candidates."""
    user: Ints
    """User of each impression."""
    item: Ints
    """Item of each candidate."""
    position: Ints
    version: Ints
    """Version of each candidate's item visible to the impression, a row of `described`, or -1."""
    context: dict[str, Values]
    """Context values of each impression, by declared name."""
    interactions: pl.DataFrame
    """Interactions from `place`, in order of (known_at, interaction_id)."""
    done_at: Ints
    done_user: Ints
    done_item: Ints
    done_version: Ints
    done_context: dict[str, Values]

    @property
    def list_of(self) -> Ints:
        """Impression of each candidate."""
        return np.repeat(np.arange(self.at.size), np.diff(self.start))


def in_order(events: SliceEvents) -> SliceEvents:
    """The events sorted by instant and id, so that sums do not depend on the order of arrival, to the last bit."""
    return SliceEvents(
        events.items,
        events.impressions.sort("shown_at", "impression_id"),
        events.interactions.sort("known_at", "interaction_id"),
    )


class Shown(NamedTuple):
    """Impressions and their candidates, as numbers."""

    candidates: pl.DataFrame
    start: Ints
    user: Ints
    item: Ints


def code(impressions: pl.DataFrame, tables: Tables) -> Shown:
    """Impressions as numbers. Where user ids are removed, all users are 0."""
    candidates = explode(impressions)
    has_users = "user_id" in impressions.columns
    user = (
        tables.users.encode(impressions["user_id"]) if has_users else np.zeros(impressions.height, np.int64)
    )
    sizes = impressions["candidates"].list.len().to_numpy()
    return Shown(candidates, starts(sizes), user, tables.items.encode(candidates["item_id"]))


def lay_out(
    events: SliceEvents, shown: Shown, interactions: pl.DataFrame, described: Descriptions, tables: Tables
) -> Layout:  # fmt: skip
    """Arrays of events that are `in_order`; `interactions` from `place`."""
    has_users = "user_id" in interactions.columns
    at, item = _instants(events.impressions["shown_at"]), tables.items.encode(interactions["item_id"])
    done_at, names = _instants(interactions["known_at"]), tables.config.context.categorical
    return Layout(
        impressions=events.impressions,
        candidates=shown.candidates,
        described=described,
        at=at,
        start=shown.start,
        user=shown.user,
        item=shown.item,
        position=shown.candidates["position"].clip(upper_bound=DEEPEST).to_numpy().astype(np.int64),
        version=described.seen(shown.item, np.repeat(at, np.diff(shown.start))),
        context={
            name: pairs_of(events.impressions["context"], name, tables.values["context", name])
            for name in names
        },
        interactions=interactions,
        done_at=done_at,
        done_user=tables.users.encode(interactions["user_id"])
        if has_users
        else np.zeros(done_at.size, np.int64),
        done_item=item,
        done_version=described.seen(item, done_at),
        done_context={
            name: pairs_of(interactions["context"], name, tables.values["context", name]) for name in names
        },
    )


def place(state: MomentState, events: SliceEvents, shown: Shown) -> pl.DataFrame:
    """The interactions of counted kinds, each with `position` and `context` of the exposure it is attributed to.

    That is the user's latest exposure to the item within the attribution window; null if there is none. `events` are
    `in_order`, and so is the result: `user_id, item_id, kind, value, known_at, interaction_id, position, context`.
    """
    done = events.interactions.filter(pl.col("kind").is_in([*kinds_counted(state.config)])).select(
        "user_id", "item_id", "kind", "value", "known_at", "interaction_id"
    )
    if done.is_empty():
        return done.with_columns(state.shown.clear(done.height).select("position", "context"))
    users, items, earlier = state.counted.users, state.counted.items, state.shown
    sizes = np.diff(shown.start)
    index = Index(np.empty(0, np.int64))
    pairs = index.locate(users.encode(done["user_id"]) << 32 | items.encode(done["item_id"]))
    earlier_pairs = users.encode(earlier["user_id"]) << 32 | items.encode(earlier["item_id"])
    exposures = np.concatenate([earlier_pairs, np.repeat(shown.user, sizes) << 32 | shown.item])
    at = np.concatenate(
        [_instants(earlier["shown_at"]), np.repeat(_instants(events.impressions["shown_at"]), sizes)]
    )
    window = state.config.labels.attribution // timedelta(microseconds=1)
    latest = latest_exposures(
        pairs, _instants(done["known_at"]), index.locate(exposures, insert=False), at, window, len(index)
    )
    position = pl.concat([earlier["position"], shown.candidates["position"].clip(upper_bound=DEEPEST)])
    context = pl.concat([earlier["context"], events.impressions["context"]])
    # A new exposure has the context of its impression.
    context_row = np.concatenate(
        [np.arange(earlier.height), np.repeat(np.arange(sizes.size), sizes) + earlier.height]
    )
    exposure = pl.Series(latest).replace(-1, None)
    rows = pl.Series(context_row).gather(exposure)
    return done.with_columns(position=position.gather(exposure), context=context.gather(rows))


def _instants(instants: pl.Series) -> Ints:
    # Kernels are compiled anew for a read-only array.
    microseconds: Ints = instants.to_physical().to_numpy(writable=True)
    return microseconds
