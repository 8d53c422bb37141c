"""The moment state in memory: updated by events as they arrive, looked up for one request at a time.

It runs the kernels, the feature plan and the text kernel that make a slice's features table, so a request gets the
features that batch would compute. Not thread-safe.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.behaviour import plan_of
from features.config.project import Project
from features.config.slices import instant, microseconds
from features.events.item_versions import latest, versions
from features.live.texts import LiveTexts
from features.live.user_histories import Histories, Past
from features.schemas import Impressions, Interactions, Items
from features.state import MomentState, SliceEvents, counters
from features.state.counters import SESSION_READS
from features.state.descriptions import Descriptions, Values
from features.state.histories import SKIPPED
from features.state.layout import Layout, code, in_order, lay_out, place
from features.state.passing import run
from features.state.sessions import Sessions

_READS = tuple(sorted(SESSION_READS))
Ints = NDArray[np.int64]
_NOTHING = np.zeros(0, np.int64)
_NO_INTERACTIONS = Interactions.create_empty().with_columns(position=pl.lit(None, pl.Int32))
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Request:
    """Items to rank for a user at an instant (microseconds). `user_id`: as stored in the tables."""

    user_id: str
    items: tuple[str, ...]
    at: int
    session_id: str | None = None
    context: tuple[tuple[str, str], ...] = ()
    """(name, value) pairs of the declared context."""


@dataclass(frozen=True)
class Answer:
    """Lookups for a request's candidates."""

    features: NDArray[np.float32]
    """[candidate, column of the feature plan]; NaN if a value is missing."""
    versions: NDArray[np.int64]
    """Row of `LiveMoments.described` of each candidate, or -1."""
    past: Past
    """The user's moments before the request."""
    past_versions: NDArray[np.int64]
    """Row of `LiveMoments.described` of each moment's item at the time of the moment, or -1."""
    settled: int
    """How many of the moments are the same for any later request."""


class LiveMoments:
    """The state in memory. It updates the counters of `state` in place: nothing else may use them."""

    def __init__(self, state: MomentState, project: Project, vectors: pl.DataFrame) -> None:
        """`vectors`: `schemas.ItemVectors` of the state's items."""
        self._project, self.plan = project, plan_of(project)
        self._tables = state.counted
        for grain in self._tables.declared:
            for part in self._tables.of(grain):
                self._tables.own(part)
        self.histories = Histories(state)
        self.at = microseconds(state.at)
        """Instant of the newest event."""
        self.slice_at = state.at
        self.described = state.described
        self.texts = LiveTexts(self.described, state.exposed, vectors)
        self._grains = self.plan.grains & counters(project).keys()

    def counts(self, grain: str) -> pl.DataFrame:
        """A grain's counters, decayed to the newest event."""
        return self._tables.frame(grain, self.at, decayed=True)

    def entries(self) -> int:
        """Number of entries of all counters."""
        declared = self._tables.declared
        return sum(len(self._tables[part]) for grain in declared for part in self._tables.of(grain))

    def versions_of(self, items: Sequence[str], at: int) -> NDArray[np.int64]:
        """Row of `described` of the version of each item known before an instant, or -1."""
        codes = self._tables.items.encode(pl.Series(items, dtype=pl.String))
        return self.described.seen(codes, np.full(codes.size, at))

    def update(self, events: SliceEvents, vectors: pl.DataFrame) -> None:
        """Add events, none of them older than the newest one so far. `vectors`: of the new item versions."""
        tables = [
            _by_slice(table, column, self._project)
            for table, column in (
                (events.items, "known_at"), (events.impressions, "shown_at"), (events.interactions, "known_at")
            )
        ]  # fmt: skip
        empty = (Items, Impressions, Interactions)
        for step in sorted({step for parts in tables for step in parts}):
            items, impressions, interactions = (
                parts.get(step, schema.create_empty()) for parts, schema in zip(tables, empty, strict=True)
            )
            self._reach(
                items["known_at"].max(), impressions["shown_at"].max(), interactions["known_at"].max()
            )
            if items.height:
                self._set_versions(versions(self.described.found, items), vectors)
            if impressions.height or interactions.height:
                self._update(in_order(SliceEvents(items, impressions, interactions)))

    def _update(self, events: SliceEvents) -> None:
        project, tables = self._project, self._tables
        users = pl.concat([events.impressions["user_id"], events.interactions["user_id"]])
        state = self.histories.state(users.unique(maintain_order=True))
        shown = code(events.impressions, tables)
        layout = lay_out(events, shown, place(state, events, shown, project), self.described, tables, project)
        sessions = Sessions(state, layout, tables)
        for _ in run(tables, layout, sessions, project, _READS, (), counters(project)):
            pass
        self.texts.show(layout.version)
        self.histories.add(events, sessions.table(instant(self.at + 1)))

    def look_up(self, request: Request) -> Answer:
        """Features of a request's candidates, and the user's moments before it."""
        size = len(request.items)
        items = self._tables.items.encode(pl.Series(request.items, dtype=pl.String))
        at, user = (
            np.array([request.at]),
            np.array([self._tables.users.encode(pl.Series([request.user_id]))[0]]),
        )
        versions_shown = self.described.seen(items, np.full(size, request.at))
        history = self.histories.of(request.user_id)
        layout = Layout(
            impressions=pl.DataFrame(
                {"user_id": [request.user_id], "session_id": [request.session_id]},
                schema_overrides={"session_id": pl.String},
            ),
            candidates=pl.DataFrame(),
            described=self.described,
            at=at, start=np.array([0, size]), user=user, item=items, position=np.ones(size, np.int64),
            version=versions_shown,
            context={name: self._context(name, request) for name in self._project.context.categorical},
            interactions=_NO_INTERACTIONS,
            done_at=_NOTHING, done_user=_NOTHING, done_item=_NOTHING, done_version=_NOTHING,
            done_context=dict.fromkeys(
                self._project.context.categorical, Values(np.zeros(1, np.int64), _NOTHING)
            ),
        )  # fmt: skip
        sessions = None
        if "user" in self._grains:
            sessions = Sessions(
                replace(self.histories.blank, sessions=history.sessions), layout, self._tables
            )
        plan = self.plan
        (chunk,) = run(
            self._tables,
            layout,
            sessions,
            self._project,
            plan.by_list,
            plan.by_candidate,
            self._grains,
            update=False,
        )
        past, settled = self.histories.past(request.user_id, request.at)
        codes = self._tables.items.encode(pl.Series(past.items, dtype=pl.String))
        texts = self._texts(request.at, versions_shown, past, codes) if plan.texts else None
        out = np.empty((len(plan.columns), size), np.float32)
        plan.evaluate(layout, chunk, texts, out, np.zeros(len(plan.columns), bool))
        return Answer(out.T, versions_shown, past, self._read_then(codes, past.at), settled)

    def _texts(self, at: int, shown: Ints, past: Past, codes: Ints) -> NDArray[np.float64]:
        """`similarity.COLUMNS` of the candidates, [column, candidate]."""
        settings = self._project.features
        skipped = np.array([action == SKIPPED for action in past.actions], bool)
        forget = settings.ttl // _MICROSECOND
        return self.texts.similarity(at, shown, codes, past.at, skipped, settings.text_history, forget)

    def _read_then(self, codes: NDArray[np.int64], at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Version of each past item at the time of its moment, else at the slice's start."""
        then = self.described.seen(codes, at)
        return np.where(
            then >= 0, then, self.described.seen(codes, np.full(codes.size, microseconds(self.slice_at)))
        )

    def _context(self, name: str, request: Request) -> Values:
        values = list(dict.fromkeys(value for given, value in request.context if given == name))
        known = self._tables.values["context", name]
        return Values(np.array([0, len(values)]), known.encode(pl.Series(values, dtype=pl.String)))

    def forget(self, user: str) -> None:
        """Drop a user: the user's id gets a new number, so the old counters are never read again."""
        self._tables.users.forget(user)
        self.histories.forget(user)

    def _reach(self, *instants: Any) -> None:
        """Advance to the newest instant. At the start of a slice, trim histories and item versions as batch does."""
        reached = max(instant for instant in instants if instant is not None)
        every = self._project.slices.every
        if reached >= self.slice_at + every:
            self.slice_at += (reached - self.slice_at) // every * every
            self.histories.start_slice(self.slice_at)
            self._set_versions(latest(self.described.found), None)
        self.at = max(self.at, microseconds(reached))

    def _set_versions(self, found: pl.DataFrame, vectors: pl.DataFrame | None) -> None:
        attributes = self._project.items.categorical
        self.described = Descriptions(
            found, self._tables.items, {name: self._tables.values["attribute", name] for name in attributes}
        )
        self.texts.replace(self.described, vectors)


def _by_slice(table: pl.DataFrame, column: str, project: Project) -> dict[int, pl.DataFrame]:
    """A table's rows by slice number; rows from before the first slice belong to it."""
    if table.is_empty():
        return {}
    since = (table[column] - project.slices.start).dt.total_microseconds()
    steps = (since // (project.slices.every // _MICROSECOND)).clip(0)
    parts = table.with_columns(steps.alias("step")).partition_by("step", as_dict=True, include_key=False)
    return {int(step): part for (step,), part in parts.items()}
