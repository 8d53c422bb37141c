"""One pass over a slice: at each instant the counters are looked up, then updated.

Counters do not wait for each other but in this order: positions, which say how many clicks were expected; the users',
which say what a session began with; tastes after the clicks of each value. Each goes through the slice in chunks of
rows that fit a processor's cache.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.project import Project
from features.state.counters import FIRST_RATE, LISTWISE, SESSION, SESSION_READS, Read, kinds_counted
from features.state.descriptions import Values
from features.state.kernels import Rows, codes_of, slots_of
from features.state.layout import Layout
from features.state.sessions import Sessions
from features.state.tables import Part, Tables

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
CHUNK = 65_536
"""Candidates at a time."""
_NO_VALUES = Values(np.zeros(1, np.int64), np.zeros(0, np.int64))
_SHOWN = ("exposures", "expected", "depth")


@dataclass(frozen=True)
class Chunk:
    """What was looked up for some lists of a layout."""

    lists: slice
    candidates: slice
    by_list: Floats
    """[read, list]"""
    by_candidate: Floats
    """[read, candidate]"""
    expected: Floats
    """Clicks that an average item would have had at each candidate's position."""


def run(
    tables: Tables,
    layout: Layout,
    sessions: Sessions | None,
    project: Project,
    by_list: Sequence[Read],
    by_candidate: Sequence[Read],
    grains: Collection[str],
    *,
    update: bool = True,
    expected: Floats | None = None,
) -> Iterator[Chunk]:
    """Look up the reads of `grains`, chunk by chunk, and update the tables of these grains, unless told not to.

    Reads of one part stand side by side; those of other grains are left at 0. `expected` is worked out from the
    counter of positions, unless given.
    """
    steps = [_Step(tables, part, (by_list, by_candidate), update) for part in _order(tables, grains)]
    amounts = _Amounts(layout, project)
    strength = project.features.prior_strength
    for lists, done in chunks(layout.at, layout.start, layout.done_at, CHUNK):
        rows = slice(int(layout.start[lists.start]), int(layout.start[lists.stop]))
        found = Chunk(
            lists, rows,
            np.zeros((len(by_list), lists.stop - lists.start)),
            np.zeros((len(by_candidate), rows.stop - rows.start)),
            np.zeros(rows.stop - rows.start) if expected is None else expected[rows],
        )  # fmt: skip
        work = _Work(layout, amounts, found, done)
        for step in steps:
            if step.grain == "position":
                shown, clicked = step.go(work)
                found.expected[:] = (clicked + strength * FIRST_RATE) / (shown + strength)
            else:
                step.go(work)
            if step.grain == "user" and sessions is not None:
                counts = found.by_list[[by_list.index(read) for read in SESSION_READS]]
                out = sessions.go_on(lists, counts)
                for n, read in enumerate(SESSION):
                    if read in by_list:
                        found.by_list[by_list.index(read)] = out[n]
        yield found


def _order(tables: Tables, grains: Collection[str]) -> list[Part]:
    first = ("position", "everything", "user")
    names = [*first, *(grain for grain in tables.declared if grain not in first)]
    return [part for grain in names if grain in grains for part in tables.of(grain)]


def chunks(at: Ints, start: Ints, done_at: Ints, size: int) -> Iterator[tuple[slice, slice]]:
    """Lists and interactions of each chunk of about `size` candidates, cut between instants and never within one."""
    first, done, count = 0, 0, at.size
    while True:
        until = int(np.searchsorted(start, start[first] + size, "right")) - 1
        until = min(max(until, first + 1), count)
        while 0 < until < count and at[until] == at[until - 1]:
            until += 1
        last = done_at.size
        if until < count:
            last = int(np.searchsorted(done_at, at[until], "left"))
        yield slice(first, until), slice(done, last)
        first, done = until, last
        if first >= count:
            return


class _Amounts:
    """What each interaction of a slice adds, by quantity."""

    def __init__(self, layout: Layout, project: Project) -> None:
        kinds, kind = kinds_counted(project), layout.interactions["kind"]
        columns = {quantity: (kind == name).to_numpy().astype(float) for name, quantity in kinds.items()}
        self.clicked = columns["clicks"] > 0
        value = layout.interactions["value"].fill_null(0.0).to_numpy()
        for name in project.features.valued:
            columns[f"{kinds[name]}_value"] = columns[kinds[name]] * value
        for name in project.items.numeric:
            said = _of(layout.described.numbers(name), layout.done_version)
            known = self.clicked & ~np.isnan(said)
            columns |= {f"{name}_known": known.astype(float), f"{name}_taken": np.where(known, said, 0.0)}
        self.names = list(columns)
        self.done = np.column_stack([*columns.values()])


class _Work:
    """A chunk at work."""

    def __init__(self, layout: Layout, amounts: _Amounts, found: Chunk, done: slice) -> None:
        self.layout, self.amounts, self.found, self.done = layout, amounts, found, done
        self.at = layout.at[found.lists]
        self.done_at = layout.done_at[done]
        self.begins = np.concatenate([self.at[:1], self.done_at[:1]])
        sizes = np.diff(layout.start)[found.lists]
        self.first = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)[: sizes.size]
        self.list_of = np.repeat(np.arange(sizes.size), sizes)
        self.user = layout.user[found.lists][self.list_of]
        self.candidate_at = self.at[self.list_of]
        self.sizes = sizes.astype(float)
        self.clicks: dict[str, tuple[Ints, Floats]] = {}
        """By attribute: the first slot of each interaction, and the user's clicks of each slot's value before it."""

    def taste(self, name: str) -> Floats:
        """By how much each interaction raises the user's clicks and Σ n·ln n over the clicks n of each value."""
        start, before = self.clicks[name]
        raised = _n_log_n(before + 1) - _n_log_n(before)
        clicked = self.amounts.clicked[self.done]
        row = np.repeat(np.arange(clicked.size), np.diff(start))
        taste = np.zeros((clicked.size, 2))
        np.add.at(taste[:, 0], row, 1.0)
        np.add.at(taste[:, 1], row, raised)
        return np.where(clicked[:, None], taste, 0.0)


class _Step:
    """One table's part in the pass."""

    def __init__(
        self, tables: Tables, part: Part, reads: tuple[Sequence[Read], Sequence[Read]], update: bool
    ) -> None:
        self.grain, self.name = part
        self.table, self.update = tables.own(part) if update else tables[part], update
        self.listwise = self.grain in LISTWISE
        asked = reads[0 if self.listwise else 1]
        mine = [n for n, read in enumerate(asked) if (read.grain, read.part) == part]
        self.rows = slice(mine[0], mine[-1] + 1) if mine else slice(0, 0)
        names = [read.name for read in asked[self.rows]]
        if self.grain == "position":
            names = ["exposures_all", "clicks_all"]
        self.wanted = np.array([self.table.number[name] for name in names], np.int64)
        self.instants = [n for n, name in enumerate(names) if name.endswith("_at")]

    def go(self, work: _Work) -> Floats:
        """Pass over a chunk; what was looked up, which is also where the chunk keeps it."""
        found = work.found.by_list if self.listwise else work.found.by_candidate
        out = np.zeros((2, found.shape[1])) if self.grain == "position" else found[self.rows]
        out[self.instants] = np.nan
        if self.update and work.begins.size:
            self.table.sweep(int(work.begins.min()))
        shown, done = self._shown(work), self._done(work)
        keeps = self.grain == "user_attribute"
        prior = np.empty(done.entry.size if keeps else 0)
        self.table.count(shown, done, self.wanted, out, prior, update=self.update)
        if keeps:
            work.clicks[self.name] = done.start, prior
        return out

    def _shown(self, work: _Work) -> Rows:
        layout, found = work.layout, work.found
        lists, rows = found.lists, found.candidates
        if self.listwise:
            codes = np.zeros(work.at.size, np.int64) if self.grain == "everything" else layout.user[lists]
            expected = np.add.reduceat(found.expected, work.first) if work.at.size else np.empty(0)
            amount = np.column_stack([work.sizes, expected])
            names = () if self.grain == "taste" else ("exposures", "expected")
            return self._rows(work.at, *_alone(codes), amount, names)
        exposures = np.ones(found.expected.size)
        depth = layout.position[rows].astype(float)
        amount = np.column_stack([exposures, found.expected, depth])
        by_version = layout.described.values.get(self.name, _NO_VALUES)
        slots = {
            "position": lambda: _alone(layout.position[rows]),
            "item": lambda: _alone(layout.item[rows]),
            "user_item": lambda: _alone(work.user << 32 | layout.item[rows]),
            "attribute": lambda: _several(layout.version[rows], by_version, 0 * work.user),
            "user_attribute": lambda: _several(layout.version[rows], by_version, work.user),
            "context": lambda: _several(lists.start + work.list_of, layout.context[self.name], 0 * work.user),
            "item_context": lambda: _several(
                lists.start + work.list_of, layout.context[self.name], layout.item[rows]
            ),
        }
        return self._rows(work.candidate_at, *slots[self.grain](), amount, _SHOWN)

    def _done(self, work: _Work) -> Rows:
        layout, done, amounts = work.layout, work.done, work.amounts
        at, amount = work.done_at, amounts.done[done]
        user, item = layout.done_user[done], layout.done_item[done]
        if self.grain == "taste":
            return self._rows(at, *_alone(user), work.taste(self.name), ("clicks", "spread"))
        if self.grain == "position":
            place = layout.interactions["position"][done].fill_null(-1).to_numpy().astype(np.int64)
            answers = amounts.clicked[done] & (place >= 0)
            return self._rows(at[answers], *_alone(place[answers]), amount[answers], amounts.names)
        rows = np.arange(done.start, done.stop)
        by_version = layout.described.values.get(self.name, _NO_VALUES)
        slots = {
            "everything": lambda: _alone(np.zeros(at.size, np.int64)),
            "user": lambda: _alone(user),
            "item": lambda: _alone(item),
            "user_item": lambda: _alone(user << 32 | item),
            "attribute": lambda: _several(layout.done_version[done], by_version, 0 * user),
            "user_attribute": lambda: _several(layout.done_version[done], by_version, user),
            "context": lambda: _several(rows, layout.done_context[self.name], 0 * user),
            "item_context": lambda: _several(rows, layout.done_context[self.name], item),
        }
        return self._rows(at, *slots[self.grain](), amount, amounts.names)

    def _rows(self, at: Ints, start: Ints, codes: Ints, amount: Floats, names: Sequence[str]) -> Rows:
        quantities = self.table.counter.quantities
        pairs = [(n, quantities.index(name)) for n, name in enumerate(names) if name in quantities]
        columns = np.array(pairs, np.int64).reshape(-1, 2).T.copy()
        return Rows(
            at, start, self.table.locate(codes, insert=self.update), amount, columns[0], columns[1],
            list(names).index("clicks") if "clicks" in names else -1,
        )  # fmt: skip


def _alone(codes: Ints) -> tuple[Ints, Ints]:
    """Rows of one entry each."""
    return np.arange(codes.size + 1), codes


def _several(owner: Ints, values: Values, high: Ints) -> tuple[Ints, Ints]:
    """Rows with an entry for each value of their owner."""
    slots = slots_of(owner, values.start)
    return slots, codes_of(owner, values.start, values.value, high, slots)


def _of(values: Floats, rows: Ints) -> Floats:
    """Values of rows, NaN of row -1."""
    return np.append(values, np.nan)[rows]


def _n_log_n(n: Floats) -> Floats:
    return np.where(n > 0, n * np.log(np.maximum(n, 1.0)), 0.0)
