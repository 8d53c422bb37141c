"""The events of a slice as arrays, in order of (instant, id): what was shown, and what was done and where."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.project import Project
from features.state.counters import kinds_counted
from features.state.descriptions import Descriptions, Values, pairs_of, starts
from features.state.histories import DEEPEST, explode, sights_of
from features.state.kernels import latest_sights
from features.state.moment import MomentState, SliceEvents
from features.state.table import Index
from features.state.tables import Tables

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """A slice, row by row. Numbers of users, items and values are those of the state's entities."""

    impressions: pl.DataFrame
    """In order of (shown_at, impression_id)."""
    candidates: pl.DataFrame
    """`item_id, position` of each candidate, list after list."""
    described: Descriptions
    at: Ints
    """Instant of each list."""
    start: Ints
    """First candidate of each list, and their number."""
    user: Ints
    item: Ints
    """Of each candidate."""
    position: Ints
    version: Ints
    """Row of `described` that each candidate was shown in, or -1."""
    context: dict[str, Values]
    """Of each list, by declared name."""
    interactions: pl.DataFrame
    """`place`, in order of (known_at, interaction_id)."""
    done_at: Ints
    done_user: Ints
    done_item: Ints
    done_version: Ints
    done_context: dict[str, Values]

    @property
    def list_of(self) -> Ints:
        """The list of each candidate."""
        return np.repeat(np.arange(self.at.size), np.diff(self.start))

    @property
    def candidate_at(self) -> Ints:
        """Instant of each candidate."""
        return np.repeat(self.at, np.diff(self.start))


def in_order(events: SliceEvents) -> SliceEvents:
    """The events by instant and id, whatever order they came in: what is summed is then equal to the last bit."""
    return SliceEvents(
        events.items,
        events.impressions.sort("shown_at", "impression_id"),
        events.interactions.sort("known_at", "interaction_id"),
    )


def lay_out(
    events: SliceEvents, interactions: pl.DataFrame, described: Descriptions, tables: Tables, project: Project,
) -> Layout:  # fmt: skip
    """Arrays of events that are `in_order`; `interactions` as `place` gives them."""
    shown, users = events.impressions, "user_id" in events.impressions.columns
    candidates = explode(shown)
    at, start = _instants(shown["shown_at"]), starts(shown["candidates"].list.len().to_numpy())
    item = tables.items.encode(candidates["item_id"])
    done_item = tables.items.encode(interactions["item_id"])
    done_at = _instants(interactions["known_at"])
    facts = project.context.categorical
    return Layout(
        impressions=shown,
        candidates=candidates,
        described=described,
        at=at,
        start=start,
        user=tables.users.encode(shown["user_id"]) if users else np.zeros(at.size, np.int64),
        item=item,
        position=candidates["position"].clip(upper_bound=DEEPEST).to_numpy().astype(np.int64),
        version=described.seen(item, np.repeat(at, np.diff(start))),
        context={name: pairs_of(shown["context"], name, tables.values["context", name]) for name in facts},
        interactions=interactions,
        done_at=done_at,
        done_user=tables.users.encode(interactions["user_id"]) if users else np.zeros(done_at.size, np.int64),
        done_item=done_item,
        done_version=described.seen(done_item, done_at),
        done_context={
            name: pairs_of(interactions["context"], name, tables.values["context", name]) for name in facts
        },
    )


def place(state: MomentState, events: SliceEvents, project: Project) -> pl.DataFrame:
    """The interactions of counted kinds, with `position` and `context` of the sight that each may answer.

    That is the user's latest sight of the item within the attribution window; null where there is none. `events` are
    `in_order`, and so is the result: `user_id, item_id, kind, value, known_at, interaction_id, position, context`.
    """
    done = events.interactions.filter(pl.col("kind").is_in([*kinds_counted(project)])).select(
        "user_id", "item_id", "kind", "value", "known_at", "interaction_id"
    )
    users = done["user_id"].unique().implode()
    sights = sights_of(state.shown, events.impressions.filter(pl.col("user_id").is_in(users)), project)
    names = pl.concat([done.select("user_id", "item_id"), sights.select("user_id", "item_id")])
    codes = names.select(
        pl.col("user_id", "item_id").cast(pl.Categorical(pl.Categories.random())).to_physical()
    )
    pair = codes["user_id"].to_numpy().astype(np.int64) << 32 | codes["item_id"].to_numpy()
    index = Index(np.empty(0, np.int64))
    asked, shown = index.locate(pair[: done.height]), index.locate(pair[done.height :], insert=False)
    window = project.labels.attribution.total_seconds() * 1e6
    found = latest_sights(
        asked, _instants(done["known_at"]), shown, _instants(sights["shown_at"]), int(window), len(index)
    )
    there = pl.Series(found).replace(-1, None)
    return done.with_columns(
        position=sights["position"].gather(there), context=sights["context"].gather(there)
    )


def _instants(instants: pl.Series) -> Ints:
    return instants.to_physical().to_numpy()
