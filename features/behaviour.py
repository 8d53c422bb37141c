"""Compute a slice's features table and the moment state after it, in a single pass.

A slice runs `lookup_and_update`. `read_features` also serves live requests: if all impressions are at one instant, it
reads the state without copying it. For distributed work, `lookup_globals` updates the global counters once, and its
`Answers` stand in for them in each worker.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.catalogue import catalogue, features
from features.config.sections import BehaviourConfig
from features.events.point_in_time import latest, versions
from features.queries import kept_query_clicks, query_matches
from features.similarity import MEAN_TEXT, exposed, mean_text, text_similarity
from features.state.counters import Counter, is_global
from features.state.histories import Skips, moments, remembered, still_answerable
from features.state.moment import OWN, MomentState, SliceEvents
from features.threads import aside

if TYPE_CHECKING:
    from features.catalogue.plan import FeaturePlan
    from features.state.counter_tables import Tables
    from features.state.layout import Layout
    from features.state.passing import Chunk

Floats = NDArray[np.floating[Any]]
_plans: dict[str, "FeaturePlan"] = {}


@dataclass(frozen=True)
class Answers:
    """Lookups of the global counters for each impression of a slice, in order of (shown_at, impression_id)."""

    by_list: pl.DataFrame
    """Columns are numbered like the plan's reads. `mean_text`, if texts are used, is the mean of texts shown before."""
    by_candidate: pl.DataFrame
    expected: pl.Series
    """Expected clicks at each candidate's position."""


def read_features(state: MomentState, events: SliceEvents, vectors: pl.DataFrame) -> pl.DataFrame:
    """Features of every candidate, sorted by shown_at, impression_id and position.

    `state` is the state before the slice, `events` what became known in it. A row uses only what was known strictly
    before its impression. `vectors`: `schemas.ItemVectors`. Returns impression_id, item_id and one Float32 column per
    name in the catalogue of `state.config`.
    """
    return measure(state, events, vectors, plan_of(state.config))


def measure(
    state: MomentState,
    events: SliceEvents,
    vectors: pl.DataFrame,
    plan: "FeaturePlan",
    dtype: type[np.floating[Any]] = np.float32,
) -> pl.DataFrame:
    """`read_features` for any plan, with columns of `dtype`."""
    work = _Work(state, events, plan, update=not _at_one_instant(events))
    return work.table(vectors, dtype)


def lookup_and_update(
    state: MomentState,
    events: SliceEvents,
    until: datetime,
    vectors: pl.DataFrame,
    answers: Answers | None = None,
) -> tuple[pl.DataFrame, MomentState]:
    """Return `read_features` and the state of `advance`, computed in one pass.

    With `answers`, the global counters are neither needed in `state` nor updated.
    """
    grains = [
        grain for grain, counter in state.counted.declared.items() if not (answers and is_global(counter))
    ]
    work = _Work(state, events, plan_of(state.config), grains, answers)
    histories = aside(partial(work.histories, until), work.layout.item.size)
    return work.table(vectors, np.float32), work.state(until, histories())


def advance(
    state: MomentState, events: SliceEvents, until: datetime, expected: pl.Series | None = None
) -> MomentState:
    """The state at `until`, after the events known in [state.at, until).

    With `expected` (`Answers.expected`), the global counters are not updated.
    """
    answers = None if expected is None else Answers(pl.DataFrame(), pl.DataFrame(), expected)
    grains = [
        grain for grain, counter in state.counted.declared.items() if not (answers and is_global(counter))
    ]
    work = _Work(state, events, _empty_plan(), grains, answers)
    for _ in work.chunks():
        pass
    return work.state(until, work.histories(until))


def lookup_globals(
    state: MomentState, events: SliceEvents, placed: pl.DataFrame, until: datetime, vectors: pl.DataFrame
) -> tuple[Answers, MomentState]:
    """Look up the global counters for every impression of a slice; return the answers and the state with them updated.

    `events` and `placed` (output of `layout.place`) are sorted and need no user ids. Interactions are ignored.
    """
    plan, declared = plan_of(state.config), state.counted.declared
    work = _Work(state, events, plan, [g for g, c in declared.items() if is_global(c)], placed=placed)
    chunks = [*work.chunks()]
    by_list, by_candidate = (
        pl.DataFrame({str(n): np.concatenate([getattr(c, side)[n] for c in chunks]) for n in _globals(reads, declared)})
        for side, reads in (("by_list", plan.by_list), ("by_candidate", plan.by_candidate))
    )  # fmt: skip
    expected = pl.Series("expected", np.concatenate([chunk.expected for chunk in chunks]))
    if plan.texts:
        by_list = by_list.with_columns(mean_text(state, work.layout, vectors))
    return Answers(by_list, by_candidate, expected), work.counted(until)


def plan_of(config: BehaviourConfig) -> "FeaturePlan":
    """The compiled plan of a catalogue; cached."""
    key = config.model_dump_json()
    if key not in _plans:
        from features.catalogue.plan import compile_plan

        names = catalogue(config)["name"].to_list()
        _plans[key] = compile_plan(features(config), config.features.relative, names)
    return _plans[key]


@lru_cache(maxsize=1)
def _empty_plan() -> "FeaturePlan":
    from features.catalogue.plan import compile_plan

    return compile_plan([], [], [])


def _globals(reads: Collection[Any], declared: Mapping[str, Counter]) -> list[int]:
    """Numbers of the reads that global counters answer."""
    global_grains = {grain for grain, counter in declared.items() if is_global(counter)}
    return [n for n, read in enumerate(reads) if read.grain in global_grains]


def _at_one_instant(events: SliceEvents) -> bool:
    """Whether no event can affect any impression, so that the state need not be updated."""
    return events.interactions.is_empty() and events.impressions["shown_at"].n_unique() <= 1


class _Work:
    """A single pass through a slice's events."""

    def __init__(
        self,
        state: MomentState,
        events: SliceEvents,
        plan: "FeaturePlan",
        grains: Collection[str] | None = None,
        answers: Answers | None = None,
        placed: pl.DataFrame | None = None,
        *,
        update: bool = True,
    ) -> None:
        from features.state.layout import code, in_order, lay_out, place
        from features.state.sessions import Sessions

        self.before, self.plan, self.answers = state, plan, answers
        self.events, self.update = in_order(events) if placed is None else events, update
        self.grains = _needed(plan, state.counted.declared, update) if grains is None else grains
        unchanged = events.items.is_empty()
        self.versions = state.items if unchanged else versions(state.items, events.items)
        described = state.described if unchanged else state.describe(self.versions)
        self.tables: Tables = state.counted.copy() if update else state.counted
        shown = code(self.events.impressions, self.tables)
        placed = place(state, self.events, shown) if placed is None else placed
        self.layout: Layout = lay_out(self.events, shown, placed, described, self.tables)
        self.sessions = Sessions(state, self.layout, self.tables) if "user" in self.grains else None

    def chunks(self) -> "Iterator[Chunk]":
        """The lookups, chunk by chunk."""
        from features.state.passing import run

        plan, answers = self.plan, self.answers
        expected = None if answers is None else answers.expected.to_numpy()
        chunks = run(
            self.tables, self.layout, self.sessions, plan.by_list, plan.by_candidate, self.grains,
            update=self.update, expected=expected,
        )  # fmt: skip
        for chunk in chunks:
            if answers is not None:
                for table, reads, rows in (
                    (answers.by_list, chunk.by_list, chunk.lists),
                    (answers.by_candidate, chunk.by_candidate, chunk.candidates),
                ):
                    for name in table.drop(MEAN_TEXT, strict=False).columns:
                        reads[int(name)] = table[name].to_numpy()[rows]
            yield chunk

    def table(self, vectors: pl.DataFrame, dtype: type[np.floating[Any]]) -> pl.DataFrame:
        """impression_id, item_id and the plan's columns."""
        layout, plan = self.layout, self.plan
        texts = self._texts(vectors) if plan.texts else None
        out = np.empty((len(plan.columns), layout.item.size), dtype)
        missing = np.zeros(len(plan.columns), bool)
        for chunk in self.chunks():
            plan.evaluate(layout, chunk, texts, out, missing)
        ids = layout.impressions["impression_id"].gather(layout.list_of)
        keys = pl.DataFrame({"impression_id": ids, "item_id": layout.candidates["item_id"]})
        columns = [pl.Series(name, values) for name, values in zip(plan.columns, out, strict=True)]
        with_gaps = [name for name, gap in zip(plan.columns, missing, strict=True) if gap]
        return keys.with_columns(columns).with_columns(pl.col(with_gaps).fill_nan(None))

    def counted(self, until: datetime) -> MomentState:
        """The state at `until` with counters updated and users' histories unchanged."""
        own = {name: getattr(self.before, name) for name in OWN}
        return MomentState(until, latest(self.versions), **own, exposed=self._exposed(), counted=self.tables)

    def histories(self, until: datetime) -> dict[str, pl.DataFrame]:
        """Users' histories at `until`, without sessions; independent of the counters."""
        skips = Skips(self.before, self.events)
        return {
            "open": skips.still_open(until),
            "shown": still_answerable(self.before, self.events, until),
            "moments": remembered(self.before, skips, self.events, until),
        }

    def state(self, until: datetime, histories: dict[str, pl.DataFrame]) -> MomentState:
        """The state at `until`, given its `histories`."""
        assert self.sessions is not None
        sessions = self.sessions.table(until)
        return MomentState(
            until,
            latest(self.versions),
            **histories,
            sessions=sessions,
            exposed=self._exposed(),
            counted=self.tables,
            query_clicks=kept_query_clicks(self.before, self.layout, until)
            if self.before.config.context.query
            else self.before.query_clicks,
        )

    def _exposed(self) -> pl.DataFrame:
        return self.before.exposed if self.answers else exposed(self.before.exposed, self.layout)

    def _texts(self, vectors: pl.DataFrame) -> Floats:
        means = (
            self.answers.by_list[MEAN_TEXT] if self.answers else mean_text(self.before, self.layout, vectors)
        )
        past = moments(self.before, self.events)
        similar = text_similarity(self.before, self.layout, means, past, vectors)
        if not self.before.config.context.query:
            return similar
        return np.vstack([similar, query_matches(self.before, self.layout, vectors)])


def _needed(plan: "FeaturePlan", declared: Mapping[str, Counter], update: bool) -> set[str]:
    """Counters that the plan reads and, with `update`, those that their updates depend on."""
    needed = set(plan.grains & declared.keys())
    if update and needed & {"item", "attribute", "user"}:
        needed.add("position")
    if update and "taste" in needed:
        needed.add("user_attribute")
    return needed
