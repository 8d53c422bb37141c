"""One pass over a slice: at each instant the counters are looked up, then updated.

Counters go through the slice in chunks of rows that fit a processor's cache, in threads side by side. They wait only
for positions, which say how many clicks were expected; sessions for users' counts; tastes for the clicks of each value.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.config.project import Project
from features.state.counters import FIRST_RATE, LISTWISE, SESSION, SESSION_READS, Read, kinds_counted
from features.state.descriptions import Values
from features.state.kernels import Rows, codes_of, slots_of
from features.state.layout import Layout
from features.state.sessions import Sessions
from features.state.tables import Part, Tables
from features.state.threads import each

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
CHUNK = 65_536
"""Candidates at a time."""
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
    positions, groups = _groups(
        [_Step(tables, part, (by_list, by_candidate), update) for part in _order(tables, grains)]
    )
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
        for step in positions:
            shown, clicked = step.go(work)
            found.expected[:] = (clicked + strength * FIRST_RATE) / (shown + strength)
        each(partial(_go, work), groups, found.expected.size)
        if sessions is not None:
            counts = found.by_list[[by_list.index(read) for read in SESSION_READS]]
            out = sessions.go_on(lists, counts)
            for n, read in enumerate(SESSION):
                if read in by_list:
                    found.by_list[by_list.index(read)] = out[n]
        yield found


def _order(tables: Tables, grains: Collection[str]) -> list[Part]:
    return [part for grain in tables.declared if grain in grains for part in tables.of(grain)]


def _groups(steps: Sequence["_Step"]) -> tuple[list["_Step"], list[list["_Step"]]]:
    """The step of the positions, before all others; and groups that do not wait for each other, the longest first."""
    groups: dict[Part, list[_Step]] = {}
    for step in steps:
        groups.setdefault(("user_attribute" if step.grain == "taste" else step.grain, step.name), []).append(
            step
        )
    positions = groups.pop(("position", ""), [])
    return positions, sorted(groups.values(), key=lambda group: -len(group[0].table))


def _go(work: "_Work", steps: Sequence["_Step"]) -> None:
    for step in steps:
        step.go(work)


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
        self.position = layout.interactions["position"].fill_null(-1).to_numpy().astype(np.int64)
        value = layout.interactions["value"].fill_null(0.0).to_numpy()
        for name in project.features.valued:
            columns[f"{kinds[name]}_value"] = columns[kinds[name]] * value
        for name in project.items.numeric:
            said = _of(layout.described.numbers(name), layout.done_version)
            known = self.clicked & ~np.isnan(said)
            columns |= {f"{name}_known": known.astype(float), f"{name}_taken": np.where(known, said, 0.0)}
        self.names = list(columns)
        self.done = np.column_stack([*columns.values()])


class _Side(NamedTuple):
    """Rows that look up or update entries: lists, candidates or interactions."""

    at: Ints
    user: Ints
    item: Ints
    version: Ints
    position: Ints
    context: Mapping[str, Values]
    owner: Ints
    """Whose context a row's is."""


class _Work:
    """A chunk at work."""

    def __init__(self, layout: Layout, amounts: _Amounts, found: Chunk, done: slice) -> None:
        self.layout, self.amounts, self.found, self.done = layout, amounts, found, done
        lists, rows = found.lists, found.candidates
        at, user = layout.at[lists], layout.user[lists]
        sizes, none = np.diff(layout.start)[lists], np.empty(0, np.int64)
        of = np.repeat(np.arange(at.size), sizes)
        self.sizes, self.first = sizes.astype(float), layout.start[lists] - rows.start
        self.lists = _Side(at, user, none, none, none, {}, none)
        self.shown = _Side(
            at[of], user[of], layout.item[rows], layout.version[rows], layout.position[rows],
            layout.context, lists.start + of,
        )  # fmt: skip
        self.answers = _Side(
            layout.done_at[done], layout.done_user[done], layout.done_item[done], layout.done_version[done],
            amounts.position[done], layout.done_context, np.arange(done.start, done.stop),
        )  # fmt: skip
        self.begins = np.concatenate([at[:1], self.answers.at[:1]])
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
        expected = work.found.expected
        if self.listwise:
            expected = np.add.reduceat(expected, work.first) if work.first.size else expected
            names = () if self.grain == "taste" else ("exposures", "expected")
            return self._rows(work, work.lists, np.column_stack([work.sizes, expected]), names)
        amount = np.column_stack([np.ones(expected.size), expected, work.shown.position])
        return self._rows(work, work.shown, amount, _SHOWN)

    def _done(self, work: _Work) -> Rows:
        side, amounts, amount = work.answers, work.amounts, work.amounts.done[work.done]
        if self.grain == "taste":
            return self._rows(work, side, work.taste(self.name), ("clicks", "spread"))
        if self.grain == "position":
            placed = amounts.clicked[work.done] & (side.position >= 0)
            side, amount = side._replace(at=side.at[placed], position=side.position[placed]), amount[placed]
        return self._rows(work, side, amount, amounts.names)

    def _slots(self, work: _Work, side: _Side) -> tuple[Ints, Ints]:
        """First slot of each row, and the code of each slot's key: several where a row has several values."""
        if self.name and self.grain != "taste":
            of_item = self.grain in ("attribute", "user_attribute")
            owner = side.version if of_item else side.owner
            values = work.layout.described.values[self.name] if of_item else side.context[self.name]
            other = {"user_attribute": side.user, "item_context": side.item}.get(self.grain, 0 * side.user)
            slots = slots_of(owner, values.start)
            return slots, codes_of(owner, values.start, values.value, other, slots)
        one = {"everything": 0 * side.user, "position": side.position, "item": side.item}
        codes = one.get(self.grain, side.user)
        if self.grain == "user_item":
            codes = codes << 32 | side.item
        return np.arange(codes.size + 1), codes

    def _rows(self, work: _Work, side: _Side, amount: Floats, names: Sequence[str]) -> Rows:
        quantities = self.table.counter.quantities
        pairs = [(n, quantities.index(name)) for n, name in enumerate(names) if name in quantities]
        columns = np.array(pairs, np.int64).reshape(-1, 2).T.copy()
        start, codes = self._slots(work, side)
        return Rows(
            side.at, start, self.table.locate(codes, insert=self.update), amount, columns[0], columns[1],
            list(names).index("clicks") if "clicks" in names else -1,
        )  # fmt: skip


def _of(values: Floats, rows: Ints) -> Floats:
    """Values of rows, NaN of row -1."""
    return np.append(values, np.nan)[rows]


def _n_log_n(n: Floats) -> Floats:
    return np.where(n > 0, n * np.log(np.maximum(n, 1.0)), 0.0)
