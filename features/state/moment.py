"""The moment state: everything remembered at an instant. Batch, daily slice and live request all go through it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from features.config.project import Project
from features.config.slices import microseconds
from features.schemas import Items, Moments
from features.state.counters import counters

if TYPE_CHECKING:
    from features.state.descriptions import Descriptions
    from features.state.tables import Tables

_INSTANT = pl.Datetime("us", "UTC")
_CONTEXT = pl.List(pl.Struct({"name": pl.String, "value": pl.String}))
_OPEN: dict[str, Any] = {
    "impression_id": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "position": pl.Int32,
    "shown_at": _INSTANT,
}
_SHOWN: dict[str, Any] = {
    "user_id": pl.String,
    "item_id": pl.String,
    "position": pl.Int32,
    "context": _CONTEXT,
    "shown_at": _INSTANT,
}
_SESSIONS: dict[str, Any] = {
    "user_id": pl.String,
    "session_id": pl.String,
    "began_at": _INSTANT,
    "shown_at": _INSTANT,
    "lists": pl.Int64,
    "exposures": pl.Float64,
    "clicks": pl.Float64,
}
_EXPOSED: dict[str, Any] = {"item_id": pl.String, "known_at": _INSTANT, "exposures": pl.Int64}
OWN = ("open", "shown", "sessions", "moments")
"""Tables of the state, beside counters, whose rows are each one user's."""
SHARED = ("items", "exposed")
"""Tables of the state, beside counters, that all users share."""


@dataclass(frozen=True)
class SliceEvents:
    """The events of one slice: items, impressions and interactions of `features/schemas.py`."""

    items: pl.DataFrame
    impressions: pl.DataFrame
    interactions: pl.DataFrame


@dataclass(frozen=True, eq=False)
class MomentState:
    """Everything known strictly before `at`."""

    at: datetime
    project: Project = field(repr=False)
    items: pl.DataFrame
    """Latest version of each item (`schemas.Items`)."""
    open: pl.DataFrame
    """Candidates of lists that the user has not yet left, without those acted on."""
    shown: pl.DataFrame
    """Candidates shown so recently that an interaction may still answer them: position and context."""
    sessions: pl.DataFrame
    """Sessions that may go on: when each began and was last seen, its lists, and the user's counts at its start."""
    moments: pl.DataFrame
    """Each user's latest moments (`schemas.Moments`), in order."""
    exposed: pl.DataFrame
    """How often each item version was shown: with its vectors, the mean text that was shown."""
    counted: "Tables" = field(repr=False)
    """The decayed counters. They may be ahead of no other state: `advance` goes on from a copy."""

    def counts(self, grain: str) -> pl.DataFrame:
        """A grain's counters as of `at`: keys, a column a number, when each entry was last updated and clicked."""
        return self.counted.frame(grain, microseconds(self.at), decayed=True)

    def tables(self) -> dict[str, pl.DataFrame]:
        """The state as tables, by name; `restore` takes them back."""
        others = {name: getattr(self, name) for name in (*SHARED, *OWN)}
        return {grain: self.stored(grain) for grain in self.counted.declared} | others

    def stored(self, grain: str) -> pl.DataFrame:
        """A grain's table: as `counts`, with numbers as of each entry's last update."""
        return self.counted.frame(grain, microseconds(self.at))

    @cached_property
    def described(self) -> "Descriptions":
        """`items` as arrays: kept, for requests come one by one."""
        return self.describe(self.items)

    def describe(self, versions: pl.DataFrame) -> "Descriptions":
        """Item versions as arrays, with the numbers of this state's entities."""
        from features.state.descriptions import Descriptions

        names = self.project.items.categorical
        return Descriptions(
            versions, self.counted.items, {name: self.counted.values["attribute", name] for name in names}
        )


def names(project: Project) -> list[str]:
    """Names of the tables of a state."""
    return [*counters(project), *SHARED, *OWN]


def start(project: Project) -> MomentState:
    """The state before anything happened."""
    return restore(project.slices.start, {}, project)


def restore(at: datetime, tables: Mapping[str, pl.DataFrame], project: Project) -> MomentState:
    """The state from its tables, as `MomentState.tables` gave them; those left out are empty."""
    from features.state.snapshot import empty
    from features.state.tables import Tables

    blank = {"items": Items.create_empty(), "moments": Moments.create_empty()} | {
        name: pl.DataFrame(schema=schema)
        for name, schema in (
            ("open", _OPEN),
            ("shown", _SHOWN),
            ("sessions", _SESSIONS),
            ("exposed", _EXPOSED),
        )
    }
    totals = {grain: tables.get(grain, empty(counter)) for grain, counter in counters(project).items()}
    others = {name: tables.get(name, table) for name, table in blank.items()}
    # Read from several files, users come bucket after bucket.
    others["shown"] = others["shown"].sort("shown_at", maintain_order=True)
    if not others["moments"]["user_id"].is_sorted():
        others["moments"] = others["moments"].sort("user_id", "known_at", "item_id", "action")
    return MomentState(at, project, counted=Tables(totals, project), **others)
