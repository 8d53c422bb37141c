"""The moment state: everything known at an instant, for batch runs, daily slices and live requests alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from features.config.sections import BehaviourConfig
from features.config.slices import microseconds
from features.schemas import INSTANT, Items, Moments
from features.state.counters import counters

if TYPE_CHECKING:
    from features.state.counter_tables import Tables
    from features.state.descriptions import Descriptions

_CONTEXT = pl.List(pl.Struct({"name": pl.String, "value": pl.String}))
_OPEN: dict[str, Any] = {
    "impression_id": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "position": pl.Int32,
    "shown_at": INSTANT,
}
_SHOWN: dict[str, Any] = {
    "user_id": pl.String,
    "item_id": pl.String,
    "position": pl.Int32,
    "context": _CONTEXT,
    "shown_at": INSTANT,
}
_SESSIONS: dict[str, Any] = {
    "user_id": pl.String,
    "session_id": pl.String,
    "began_at": INSTANT,
    "shown_at": INSTANT,
    "lists": pl.Int64,
    "exposures": pl.Float64,
    "clicks": pl.Float64,
}
_EXPOSED: dict[str, Any] = {"item_id": pl.String, "known_at": INSTANT, "exposures": pl.Int64}
_QUERY_CLICKS: dict[str, Any] = {
    "user_id": pl.String,
    "query": pl.String,
    "item_id": pl.String,
    "known_at": INSTANT,
}
OWN = ("open", "shown", "sessions", "moments")
"""Tables, beside counters, whose rows belong to one user each."""
SHARED = ("items", "exposed")
"""Tables, beside counters, that all users share."""


@dataclass(frozen=True)
class SliceEvents:
    """The events of one slice, as `schemas.Items`, `schemas.Impressions` and `schemas.Interactions`."""

    items: pl.DataFrame
    impressions: pl.DataFrame
    interactions: pl.DataFrame


@dataclass(frozen=True, eq=False)
class MomentState:
    """Everything known strictly before `at`."""

    at: datetime
    items: pl.DataFrame
    """The latest version of each item (`schemas.Items`)."""
    open: pl.DataFrame
    """Candidates without interaction, of impressions that are still open."""
    shown: pl.DataFrame
    """Position and context of candidates shown within the attribution window."""
    sessions: pl.DataFrame
    """Sessions that may continue: start, last impression, number of impressions, the user's counts at the start."""
    moments: pl.DataFrame
    """Each user's latest moments (`schemas.Moments`), by user and time."""
    exposed: pl.DataFrame
    """Exposures of each item version: the weights of the mean text vector shown."""
    counted: "Tables" = field(repr=False)
    """The counters. `advance` updates a copy."""
    query_clicks: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_QUERY_CLICKS))
    """The newest clicks that followed a query, in order of time; none where the project declares no query."""

    def counts(self, grain: str) -> pl.DataFrame:
        """A grain's counters as of `at`: keys, numbers, and each entry's last update and last click."""
        return self.counted.frame(grain, microseconds(self.at), decayed=True)

    def tables(self) -> dict[str, pl.DataFrame]:
        """The state as tables by name, for `restore`."""
        others = {name: getattr(self, name) for name in (*SHARED, *OWN, *_of_queries(self.config))}
        return {grain: self.stored(grain) for grain in self.counted.declared} | others

    def stored(self, grain: str) -> pl.DataFrame:
        """As `counts`, with numbers as of each entry's last update."""
        return self.counted.frame(grain, microseconds(self.at))

    @property
    def config(self) -> BehaviourConfig:
        """What the state counts."""
        return self.counted.config

    @cached_property
    def described(self) -> "Descriptions":
        """`items` as arrays, cached for live requests."""
        return self.describe(self.items)

    def describe(self, versions: pl.DataFrame) -> "Descriptions":
        """Item versions as arrays, numbered by this state's entities."""
        from features.state.descriptions import Descriptions

        names = self.config.items.categorical
        return Descriptions(
            versions, self.counted.items, {name: self.counted.values["attribute", name] for name in names}
        )


def names(config: BehaviourConfig) -> list[str]:
    """Names of a state's tables."""
    return [*counters(config), *SHARED, *OWN, *_of_queries(config)]


def _of_queries(config: BehaviourConfig) -> tuple[str, ...]:
    return ("query_clicks",) if config.context.query else ()


def start(at: datetime, config: BehaviourConfig) -> MomentState:
    """The empty state at an instant: the start of the first slice."""
    return restore(at, {}, config)


def restore(at: datetime, tables: Mapping[str, pl.DataFrame], config: BehaviourConfig) -> MomentState:
    """The state from the tables of `MomentState.tables`; missing tables are empty."""
    from features.state.counter_tables import Tables
    from features.state.snapshot import empty

    empty_tables = {"items": Items.create_empty(), "moments": Moments.create_empty()} | {
        name: pl.DataFrame(schema=schema)
        for name, schema in (
            ("open", _OPEN),
            ("shown", _SHOWN),
            ("sessions", _SESSIONS),
            ("exposed", _EXPOSED),
            ("query_clicks", _QUERY_CLICKS),
        )
    }
    stored = {grain: tables.get(grain, empty(counter)) for grain, counter in counters(config).items()}
    others = {name: tables.get(name, table) for name, table in empty_tables.items()}
    # Several files hold one bucket of users each.
    others["shown"] = others["shown"].sort("shown_at", maintain_order=True)
    if not others["moments"]["user_id"].is_sorted():
        others["moments"] = others["moments"].sort("user_id", "known_at", "item_id", "action")
    return MomentState(at, counted=Tables(stored, config), **others)
