"""A slice's features table and the state after it, in one pass; or one of both.

`lookup_and_update` is what a slice runs. `read_features` answers requests too: where all lists come at one instant, the
state is looked up as it is and nothing is copied. `lookup_globals` and `given` cut the same pass in two, for workers.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.catalogue import catalogue, features
from features.config.project import Project
from features.events.item_versions import latest, versions
from features.similarity import MEAN_TEXT, exposed, mean_text, text_similarity
from features.state.counters import counters, is_global
from features.state.histories import Skips, moments, remembered, still_answerable
from features.state.moment import OWN, MomentState, SliceEvents
from features.state.threads import aside

if TYPE_CHECKING:
    from features.catalogue.plan import FeaturePlan
    from features.state.layout import Layout
    from features.state.passing import Chunk
    from features.state.tables import Tables

Floats = NDArray[np.floating[Any]]
_plans: dict[str, "FeaturePlan"] = {}


@dataclass(frozen=True)
class Answers:
    """What the global counters held just before each list of a slice, in order of (shown_at, impression_id)."""

    by_list: pl.DataFrame
    """Columns are numbered as the plan's reads; where texts are compared, `mean_text` is the mean shown before."""
    by_candidate: pl.DataFrame
    expected: pl.Series
    """Clicks that an average item would have had at each candidate's position."""


def read_features(
    state: MomentState, events: SliceEvents, project: Project, vectors: pl.DataFrame
) -> pl.DataFrame:
    """Features of every candidate of the slice's impressions, by instant and impression, then in the order shown.

    `state` holds what was known before the slice; `events` what became known within it; a row uses only what
    was known strictly before its impression. `vectors`: `schemas.ItemVectors`. Returns impression_id, item_id and
    one Float32 column for each name of the project's `catalogue`.
    """
    return measure(state, events, project, vectors, plan_of(project))


def measure(
    state: MomentState,
    events: SliceEvents,
    project: Project,
    vectors: pl.DataFrame,
    plan: "FeaturePlan",
    dtype: type[np.floating[Any]] = np.float32,
) -> pl.DataFrame:
    """`read_features` of any plan, in Float64 where wanted."""
    work = _Work(state, events, project, plan, update=not _at_one_instant(events))
    return work.table(vectors, dtype)


def lookup_and_update(
    state: MomentState,
    events: SliceEvents,
    until: datetime,
    project: Project,
    vectors: pl.DataFrame,
    given: Answers | None = None,
    *,
    keep: bool = True,
) -> tuple[pl.DataFrame, MomentState]:
    """`read_features`, and what `advance` makes of the same events, in one pass.

    With `given`, `state` need not hold the global counters, and they are left as they are. Without `keep` its counters
    are changed and not copied: `state` must not be used again.
    """
    grains = [grain for grain, counter in counters(project).items() if not (given and is_global(counter))]
    work = _Work(state, events, project, plan_of(project), grains, given, keep=keep)
    histories = aside(partial(work.histories, until), work.layout.item.size)
    return work.table(vectors, np.float32), work.state(until, histories())


def advance(
    state: MomentState,
    events: SliceEvents,
    until: datetime,
    project: Project,
    expected: pl.Series | None = None,
) -> MomentState:
    """The state at `until`, given the events known in [state.at, until).

    With `expected` (`Answers.expected`), the global counters are left as they are.
    """
    given = None if expected is None else Answers(pl.DataFrame(), pl.DataFrame(), expected)
    grains = [grain for grain, counter in counters(project).items() if not (given and is_global(counter))]
    work = _Work(state, events, project, _nothing(), grains, given)
    for _ in work.chunks():
        pass
    return work.state(until, work.histories(until))


def lookup_globals(
    state: MomentState,
    events: SliceEvents,
    placed: pl.DataFrame,
    until: datetime,
    project: Project,
    vectors: pl.DataFrame,
) -> tuple[Answers, MomentState]:
    """What the global counters answer to all lists of a slice, and the state after it as far as they make it.

    `events` and `placed` (`layout.place`) are in order and need no users; no interactions are read from `events`.
    """
    plan, declared = plan_of(project), counters(project)
    work = _Work(
        state, events, project, plan, [g for g, c in declared.items() if is_global(c)], placed=placed
    )
    chunks = [*work.chunks()]
    by_list, by_candidate = (
        pl.DataFrame({str(n): np.concatenate([getattr(c, side)[n] for c in chunks]) for n in _globals(reads, project)})
        for side, reads in (("by_list", plan.by_list), ("by_candidate", plan.by_candidate))
    )  # fmt: skip
    expected = pl.Series("expected", np.concatenate([chunk.expected for chunk in chunks]))
    if plan.texts:
        by_list = by_list.with_columns(mean_text(state, work.layout, vectors))
    return Answers(by_list, by_candidate, expected), work.counted(until)


def plan_of(project: Project) -> "FeaturePlan":
    """The plan of a project's catalogue, compiled once."""
    declared = project.model_dump_json(include={"labels", "items", "context", "features"})
    if declared not in _plans:
        from features.catalogue.plan import compile_plan

        names = catalogue(project)["name"].to_list()
        _plans[declared] = compile_plan(features(project), project.features.relative, names)
    return _plans[declared]


@lru_cache(maxsize=1)
def _nothing() -> "FeaturePlan":
    from features.catalogue.plan import compile_plan

    return compile_plan([], [], [])


def _globals(reads: Collection[Any], project: Project) -> list[int]:
    """Which of a plan's reads the global counters answer."""
    declared = counters(project)
    return [n for n, read in enumerate(reads) if read.grain in declared and is_global(declared[read.grain])]


def _at_one_instant(events: SliceEvents) -> bool:
    """Whether no list can see what else the events hold: then the state is looked up as it is."""
    return events.interactions.is_empty() and events.impressions["shown_at"].n_unique() <= 1


class _Work:
    """One pass over a slice, and what is made of it."""

    def __init__(
        self,
        state: MomentState,
        events: SliceEvents,
        project: Project,
        plan: "FeaturePlan",
        grains: Collection[str] | None = None,
        given: Answers | None = None,
        placed: pl.DataFrame | None = None,
        *,
        update: bool = True,
        keep: bool = True,
    ) -> None:
        from features.state.layout import code, in_order, lay_out, place
        from features.state.sessions import Sessions

        self.before, self.project, self.plan, self.given = state, project, plan, given
        self.events, self.update = in_order(events) if placed is None else events, update
        self.grains = _needed(plan, project, update) if grains is None else grains
        nothing_new = events.items.is_empty()
        self.versions = state.items if nothing_new else versions(state.items, events.items)
        described = state.described if nothing_new else state.describe(self.versions)
        self.tables: Tables = state.counted.copy() if update and keep else state.counted
        shown = code(self.events.impressions, self.tables)
        placed = place(state, self.events, shown, project) if placed is None else placed
        self.layout: Layout = lay_out(self.events, shown, placed, described, self.tables, project)
        self.sessions = Sessions(state, self.layout, self.tables) if "user" in self.grains else None

    def chunks(self) -> "Iterator[Chunk]":
        """What was looked up, chunk by chunk."""
        from features.state.passing import run

        plan, given = self.plan, self.given
        expected = None if given is None else given.expected.to_numpy()
        found = run(
            self.tables, self.layout, self.sessions, self.project, plan.by_list, plan.by_candidate, self.grains,
            update=self.update, expected=expected,
        )  # fmt: skip
        for chunk in found:
            if given is not None:
                for answers, into, rows in (
                    (given.by_list, chunk.by_list, chunk.lists),
                    (given.by_candidate, chunk.by_candidate, chunk.candidates),
                ):
                    for name in answers.drop(MEAN_TEXT, strict=False).columns:
                        into[int(name)] = answers[name].to_numpy()[rows]
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
        gaps = [name for name, gap in zip(plan.columns, missing, strict=True) if gap]
        return keys.with_columns(columns).with_columns(pl.col(gaps).fill_nan(None))

    def counted(self, until: datetime) -> MomentState:
        """The state at `until`, but for what it remembers of each user."""
        own = {name: getattr(self.before, name) for name in OWN}
        return MomentState(
            until, self.project, latest(self.versions), **own, exposed=self._exposed(), counted=self.tables
        )

    def histories(self, until: datetime) -> dict[str, pl.DataFrame]:
        """What the state at `until` remembers of each user, but for sessions: it does not wait for any count."""
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
            self.project,
            latest(self.versions),
            **histories,
            sessions=sessions,
            exposed=self._exposed(),
            counted=self.tables,
        )

    def _exposed(self) -> pl.DataFrame:
        return self.before.exposed if self.given else exposed(self.before.exposed, self.layout)

    def _texts(self, vectors: pl.DataFrame) -> Floats:
        given = self.given.by_list[MEAN_TEXT] if self.given else mean_text(self.before, self.layout, vectors)
        past = moments(self.before, self.events, self.project)
        return text_similarity(self.before, self.layout, given, past, vectors)


def _needed(plan: "FeaturePlan", project: Project, update: bool) -> set[str]:
    """The counters that a plan reads and, where the state moves on, those that these are updated with."""
    needed = set(plan.grains & counters(project).keys())
    if update and needed & {"item", "attribute", "user"}:
        needed.add("position")
    if update and "taste" in needed:
        needed.add("user_attribute")
    return needed
