"""The moment state in memory: updated by events as they arrive, looked up for one request at a time.

It runs the kernels, the feature plan and the text kernel that make a slice's features table, so a request gets the
features that batch would compute. Not thread-safe.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.behaviour import plan_of
from features.config.slices import Slices, microseconds
from features.events.point_in_time import latest, versions
from features.live.query_clicks import LiveQueries
from features.live.texts import LiveTexts
from features.live.user_histories import Context, Done, Exposure, Histories, Past, Shown
from features.state import MomentState, SliceEvents
from features.state.counters import SESSION_READS, kinds_counted
from features.state.descriptions import Descriptions, Values, starts
from features.state.histories import DEEPEST, SKIPPED
from features.state.layout import Layout
from features.state.passing import run

_READS = tuple(sorted(SESSION_READS))
Ints = NDArray[np.int64]
_IMPRESSION = ("impression_id", "user_id", "shown_at", "session_id", "context", "candidates")
_NO_ROWS = pl.DataFrame()
_PLACED = {"kind": pl.String, "value": pl.Float64, "position": pl.Int32}
_NONE_PLACED = pl.DataFrame(schema=_PLACED)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Request:
    """Items to rank for a user at an instant (microseconds). `user_id`: as stored in the tables."""

    user_id: str
    items: tuple[str, ...]
    at: int
    session_id: str | None = None
    context: Context = ()
    """Of the declared names."""


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
    """How many of the moments are the same for any later request of the slice."""
    since: int
    """Start of the slice."""


class LiveMoments:
    """The state in memory. It updates the counters of `state` in place: nothing else may use them."""

    def __init__(self, state: MomentState, slices: Slices, vectors: pl.DataFrame) -> None:
        """`vectors`: `schemas.ItemVectors` of the state's items."""
        self._config, self.plan, self._tables = state.config, plan_of(state.config), state.counted
        for grain in self._tables.declared:
            for part in self._tables.of(grain):
                self._tables.own(part)
        self.histories = Histories(state)
        self.at = microseconds(state.at)
        """Instant of the newest event."""
        self.slice_at = self.at
        self._first, self._every = microseconds(slices.start), slices.every // _MICROSECOND
        self._counted = frozenset(kinds_counted(state.config))
        self.described = state.described
        self.texts = LiveTexts(self.described, state.exposed, vectors)
        self.queries = LiveQueries(state, vectors) if state.config.context.query else None
        self._grains = self.plan.grains & self._tables.declared.keys()

    def counts(self, grain: str) -> pl.DataFrame:
        """A grain's counters, decayed to the newest event."""
        return self._tables.frame(grain, self.at, decayed=True)

    def entries(self) -> int:
        """Number of entries of all counters."""
        declared = self._tables.declared
        return sum(len(self._tables[part]) for grain in declared for part in self._tables.of(grain))

    def versions_of(self, items: Sequence[str], at: int) -> NDArray[np.int64]:
        """Row of `described` of the version of each item known before an instant, or -1."""
        codes = self._tables.items.number(items)
        return self.described.seen(codes, np.full(codes.size, at))

    def users(self) -> list[str]:
        """Ids of the users with counters."""
        return self._tables.users.ids

    def update(self, events: SliceEvents, vectors: pl.DataFrame, rows: Sequence[Shown | Done] = ()) -> None:
        """Add `events` and `rows`, none older than the newest one so far. `vectors`: of the new item versions."""
        every, start = self._every, self._first
        by_slice: dict[int, list[Shown | Done]] = {}
        # At one instant, impressions come first: an interaction may belong to one of them.
        for row in sorted([*rows, *rows_of(events)], key=_order):
            by_slice.setdefault(max(0, (row.at - start) // every), []).append(row)
        items: dict[int, pl.DataFrame] = {}
        if events.items.height:
            steps = ((events.items["known_at"].to_physical() - start) // every).clip(0)
            parts = events.items.with_columns(step=steps).partition_by(
                "step", as_dict=True, include_key=False
            )
            items = {int(step): part for (step,), part in parts.items()}
        if self.queries is not None:
            self.queries.learn(vectors)
        for step in sorted({*by_slice, *items}):
            own, fresh = by_slice.get(step, []), items.get(step)
            instants = [row.at for row in own[-1:]]
            if fresh is not None:
                instants.append(fresh["known_at"].to_physical().max())  # type: ignore[arg-type]
            self._reach(max(instants))
            if fresh is not None:
                self._set_versions(versions(self.described.found, fresh), vectors)
            if own:
                self._update(own)

    def _update(self, rows: Sequence[Shown | Done]) -> None:
        tables, histories = self._tables, self.histories
        shown: list[Shown] = []
        placed: list[tuple[Done, Exposure | None]] = []
        for row in rows:
            if isinstance(row, Shown):
                histories.show(row)
                shown.append(row)
            else:
                exposure = histories.act(row)
                if row.kind in self._counted:
                    placed.append((row, exposure))
        lists = [(row.user, row.session) for row in shown]
        layout = self._layout(shown, placed)
        sessions = histories.sessions(lists, layout.at)
        for _ in run(tables, layout, sessions, _READS, (), tables.declared):
            pass
        histories.set_sessions(lists, sessions)
        if self.queries is not None:
            self.queries.add(placed)
        self.texts.show(layout.version)

    def _layout(self, shown: Sequence[Shown], placed: Sequence[tuple[Done, Exposure | None]]) -> Layout:
        """Impressions and interactions, each in order of (instant, id), as arrays."""
        tables, names, seen = self._tables, self._config.context.categorical, self.described.seen
        at, item = (
            _ints([row.at for row in shown]),
            tables.items.number([i for row in shown for i in row.items]),
        )
        start = starts(_ints([len(row.items) for row in shown]))
        done, found = [row for row, _ in placed], [exposure for _, exposure in placed]
        done_at, done_item = _ints([row.at for row in done]), tables.items.number([row.item for row in done])
        kinds = {"kind": [row.kind for row in done], "value": [row.value for row in done]}
        positions = [None if exposure is None else exposure.position for exposure in found]
        contexts = [() if exposure is None else exposure.context for exposure in found]
        return Layout(
            impressions=_NO_ROWS,
            candidates=_NO_ROWS,
            described=self.described,
            at=at,
            start=start,
            user=tables.users.number([row.user for row in shown]),
            item=item,
            position=_ints([min(position, DEEPEST) for row in shown for position in row.positions]),
            version=seen(item, np.repeat(at, np.diff(start))),
            context={name: self._context(name, [row.context for row in shown]) for name in names},
            interactions=pl.DataFrame(kinds | {"position": positions}, _PLACED) if done else _NONE_PLACED,
            done_at=done_at,
            done_user=tables.users.number([row.user for row in done]),
            done_item=done_item,
            done_version=seen(done_item, done_at),
            done_context={name: self._context(name, contexts) for name in names},
        )

    def look_up(self, request: Request) -> Answer:
        """Features of a request's candidates, and the user's moments before it."""
        size = len(request.items)
        impression = Shown(
            request.at, "", request.user_id, request.session_id, request.context, list(request.items), [1] * size
        )  # fmt: skip
        layout = self._layout([impression], [])
        sessions = None
        if "user" in self._grains:
            sessions = self.histories.sessions([(request.user_id, request.session_id)], layout.at)
        plan = self.plan
        (chunk,) = run(
            self._tables, layout, sessions, plan.by_list, plan.by_candidate, self._grains, update=False
        )
        past, settled = self.histories.past(request.user_id, request.at)
        codes = self._tables.items.number(past.items)
        texts = self._texts(request.at, layout.version, past, codes) if plan.texts else None
        if texts is not None and self.queries is not None:
            query = self.queries.query_of(request.context)
            texts = np.vstack(
                [texts, self.queries.match(request.at, layout.item, layout.version, self.texts.rows, query)]
            )
        out = np.empty((len(plan.columns), size), np.float32)
        plan.evaluate(layout, chunk, texts, out, np.zeros(len(plan.columns), bool))
        return Answer(out.T, layout.version, past, self._read_then(codes, past.at), settled, self.slice_at)

    def _texts(self, at: int, shown: Ints, past: Past, codes: Ints) -> NDArray[np.float64]:
        """`similarity.COLUMNS` of the candidates, [column, candidate]."""
        settings = self._config.features
        skipped = np.array([action == SKIPPED for action in past.actions], bool)
        forget = settings.ttl // _MICROSECOND
        return self.texts.similarity(at, shown, codes, past.at, skipped, settings.text_history, forget)

    def _read_then(self, codes: NDArray[np.int64], at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Version of each past item at the time of its moment, else at the slice's start."""
        then = self.described.seen(codes, at)
        return np.where(then >= 0, then, self.described.seen(codes, np.full(codes.size, self.slice_at)))

    def _context(self, name: str, contexts: Sequence[Context]) -> Values:
        values = [list(dict.fromkeys(v for n, v in context if n == name)) for context in contexts]
        codes = self._tables.values["context", name].number([value for own in values for value in own])
        return Values(starts(np.array([len(own) for own in values], np.int64)), codes)

    def forget(self, user: str) -> None:
        """Drop a user: the user's id gets a new number, so the old counters are never read again."""
        self._tables.users.forget(user)
        self.histories.forget(user)
        if self.queries is not None:
            self.queries.forget(user)

    def _reach(self, at: int) -> None:
        """Advance to an instant. At the start of a slice, trim histories and item versions as batch does."""
        if at >= self.slice_at + self._every:
            self.slice_at += (at - self.slice_at) // self._every * self._every
            self.histories.start_slice(self.slice_at)
            if self.queries is not None:
                self.queries.start_slice()
            self._set_versions(latest(self.described.found), None)
        self.at = max(self.at, at)

    def _set_versions(self, found: pl.DataFrame, vectors: pl.DataFrame | None) -> None:
        attributes = self._config.items.categorical
        self.described = Descriptions(
            found, self._tables.items, {name: self._tables.values["attribute", name] for name in attributes}
        )
        self.texts.replace(self.described, vectors)


def rows_of(events: SliceEvents) -> list[Shown | Done]:
    """Impressions and interactions as rows."""
    shown = [
        Shown(
            at, id, user, session, tuple((pair["name"], pair["value"]) for pair in context),
            [candidate["item_id"] for candidate in candidates], [candidate["position"] for candidate in candidates],
        )
        for id, user, at, session, context, candidates in zip(
            *_columns(events.impressions, *_IMPRESSION), strict=True
        )
    ]  # fmt: skip
    done = _columns(events.interactions, "known_at", "interaction_id", "user_id", "item_id", "kind", "value")
    return [*shown, *map(Done, *done)]


def _columns(table: pl.DataFrame, *names: str) -> list[list[Any]]:
    """Columns as lists, instants in microseconds."""
    return [(table[name].to_physical() if name.endswith("_at") else table[name]).to_list() for name in names]


def _order(row: Shown | Done) -> tuple[int, bool, str]:
    return row.at, isinstance(row, Done), row.id


def _ints(numbers: Sequence[int]) -> Ints:
    return np.array(numbers, np.int64)
