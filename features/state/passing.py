"""One pass through a slice in order of time: at each instant the counters are looked up, then updated.

Counters process the slice in chunks of rows that fit a processor's cache, on parallel threads. The position counter
runs first: it gives the expected clicks. A user's tastes wait for the user's clicks on each value, sessions for the
user's counts.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.config.sections import BehaviourConfig
from features.state.counter_tables import Part, Tables
from features.state.counters import FIRST_RATE, LISTWISE, SESSION, SESSION_READS, Read, kinds_counted
from features.state.descriptions import Values
from features.state.kernels import Rows, codes_of, slots_of
from features.state.layout import Layout
from features.state.sessions import RunningSessions
from features.threads import each

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
CHUNK = 65_536
"""Candidates per chunk."""
_SHOWN = ("exposures", "expected", "depth")
"""What an exposure adds to."""
_NO_INTS = np.zeros(0, np.int64)
_NONE = Rows(_NO_INTS, np.zeros(1, np.int64), _NO_INTS, np.zeros((0, 1)), _NO_INTS, _NO_INTS, -1)
"""No interactions."""


@dataclass(frozen=True)
class Chunk:
    """Looked-up numbers of consecutive impressions of a layout."""

    lists: slice
    """The impressions."""
    candidates: slice
    by_list: Floats
    """[read, impression]"""
    by_candidate: Floats
    """[read, candidate]"""
    expected: Floats
    """Expected clicks of an average item at each candidate's position."""


def run(
    tables: Tables,
    layout: Layout,
    sessions: RunningSessions | None,
    by_list: Sequence[Read],
    by_candidate: Sequence[Read],
    grains: Collection[str],
    *,
    update: bool = True,
    expected: Floats | None = None,
) -> Iterator[Chunk]:
    """Look up the reads of `grains`, chunk by chunk, and with `update` update the tables of these grains.

    Reads of one part must be adjacent; reads of other grains stay 0. `expected` defaults to the estimate of the
    position counter.
    """
    sides = (by_list, _rows_by_part(by_list)), (by_candidate, _rows_by_part(by_candidate))
    steps = [
        _Step(tables, part, *sides[0 if grain in LISTWISE else 1], update)
        for grain in tables.declared
        if grain in grains
        for part in tables.of(grain)
    ]
    positions, groups = _groups(steps)
    amounts = _Amounts(layout, tables.config)
    strength = tables.config.features.prior_strength
    for lists, interactions in chunks(layout.at, layout.start, layout.done_at, CHUNK):
        rows = slice(int(layout.start[lists.start]), int(layout.start[lists.stop]))
        chunk = Chunk(
            lists, rows,
            np.zeros((len(by_list), lists.stop - lists.start)),
            np.zeros((len(by_candidate), rows.stop - rows.start)),
            np.zeros(rows.stop - rows.start) if expected is None else expected[rows],
        )  # fmt: skip
        work = _Work(layout, amounts, chunk, interactions)
        for step in positions:
            exposures, clicks = step.run(work)
            chunk.expected[:] = (clicks + strength * FIRST_RATE) / (exposures + strength)
        work.weigh()
        each(partial(_run_steps, work), groups, chunk.expected.size)
        if sessions is not None:
            counts = chunk.by_list[[by_list.index(read) for read in SESSION_READS]]
            values = sessions.advance(lists, counts)
            for n, read in enumerate(SESSION):
                if read in by_list:
                    chunk.by_list[by_list.index(read)] = values[n]
        yield chunk


def _groups(steps: Sequence["_Step"]) -> tuple[list["_Step"], list[list["_Step"]]]:
    """The position step, which runs first; and groups of steps that are independent of each other, largest first."""
    groups: dict[Part, list[_Step]] = {}
    for step in steps:
        grain = "user_attribute" if step.grain == "taste" else step.grain
        groups.setdefault((grain, step.name), []).append(step)
    positions = groups.pop(("position", ""), [])
    return positions, sorted(groups.values(), key=lambda group: -len(group[0].table))


def _rows_by_part(reads: Sequence[Read]) -> dict[Part, slice]:
    """The rows of each part's reads, which are adjacent."""
    rows: dict[Part, slice] = {}
    for n, read in enumerate(reads):
        part = read.grain, read.part
        rows[part] = slice(rows[part].start if part in rows else n, n + 1)
    return rows


def _run_steps(work: "_Work", steps: Sequence["_Step"]) -> None:
    for step in steps:
        step.run(work)


def chunks(at: Ints, start: Ints, done_at: Ints, size: int) -> Iterator[tuple[slice, slice]]:
    """Impressions and interactions of chunks of about `size` candidates; no instant is split between chunks."""
    first, first_done, count = 0, 0, at.size
    while True:
        until = int(np.searchsorted(start, start[first] + size, "right")) - 1
        until = min(max(until, first + 1), count)
        while 0 < until < count and at[until] == at[until - 1]:
            until += 1
        until_done = done_at.size
        if until < count:
            until_done = int(np.searchsorted(done_at, at[until], "left"))
        yield slice(first, until), slice(first_done, until_done)
        first, first_done = until, until_done
        if first >= count:
            return


class _Amounts:
    """How much each interaction of a slice adds to each quantity."""

    def __init__(self, layout: Layout, config: BehaviourConfig) -> None:
        self.names: list[str] = []
        self.position, self.clicked, self.done = _NO_INTS, np.zeros(0, bool), np.zeros((0, 1))
        if not layout.done_at.size:
            return
        kinds, kind = kinds_counted(config), layout.interactions["kind"]
        columns = {quantity: (kind == name).to_numpy().astype(float) for name, quantity in kinds.items()}
        self.clicked = columns["clicks"] > 0
        self.position = np.nan_to_num(layout.interactions["position"].to_numpy(), nan=-1).astype(np.int64)
        value = np.nan_to_num(layout.interactions["value"].to_numpy(), posinf=np.inf, neginf=-np.inf)
        for name in config.features.valued:
            columns[f"{kinds[name]}_value"] = columns[kinds[name]] * value
        for name in config.items.numeric:
            numbers = layout.described.column("number", name)[layout.done_version]
            known = self.clicked & ~np.isnan(numbers)
            columns |= {f"{name}_known": known.astype(float), f"{name}_sum": np.where(known, numbers, 0.0)}
        self.names = list(columns)
        self.done = np.column_stack([*columns.values()])


class _Side(NamedTuple):
    """Rows that look up or update entries: impressions, candidates or interactions."""

    at: Ints
    user: Ints
    item: Ints
    version: Ints
    position: Ints
    context: Mapping[str, Values]
    owner: Ints
    """Row of `context` that applies to each row."""


class _Work:
    """One chunk while the steps process it."""

    def __init__(self, layout: Layout, amounts: _Amounts, chunk: Chunk, done: slice) -> None:
        self.layout, self.amounts, self.chunk, self.done = layout, amounts, chunk, done
        lists, rows = chunk.lists, chunk.candidates
        at, user = layout.at[lists], layout.user[lists]
        sizes, none = np.diff(layout.start)[lists], np.empty(0, np.int64)
        list_of = np.repeat(np.arange(at.size), sizes)
        self.sizes, self.first = sizes.astype(float), layout.start[lists] - rows.start
        self.rows = np.arange(max(list_of.size, at.size, done.stop - done.start) + 1)
        """First slot of each row, where rows have one slot."""
        self.lists = _Side(at, user, none, none, none, {}, none)
        self.candidates = _Side(
            at[list_of], user[list_of], layout.item[rows], layout.version[rows], layout.position[rows],
            layout.context, lists.start + list_of,
        )  # fmt: skip
        self.interactions = _Side(
            layout.done_at[done], layout.done_user[done], layout.done_item[done], layout.done_version[done],
            amounts.position[done], layout.done_context, np.arange(done.start, done.stop),
        )  # fmt: skip
        self.begin = min([*at[:1].tolist(), *self.interactions.at[:1].tolist()], default=None)
        """Earliest instant."""
        self.clicks: dict[str, tuple[Ints, Floats]] = {}
        """By attribute: the first slot of each interaction, and the user's earlier clicks on each slot's value."""

    def weigh(self) -> None:
        """Set what impressions and candidates add to counters, once `chunk.expected` is known."""
        expected = self.chunk.expected
        of_lists = np.add.reduceat(expected, self.first) if self.first.size else expected
        self.of_lists = np.column_stack([self.sizes, of_lists])
        self.of_candidates = np.column_stack([np.ones(expected.size), expected, self.candidates.position])

    def taste(self, name: str) -> Floats:
        """[interaction, 2]: increments of the user's clicks and of Σ n·ln n over the clicks n on each value."""
        start, before = self.clicks[name]
        increments = _n_log_n(before + 1) - _n_log_n(before)
        clicked = self.amounts.clicked[self.done]
        row = np.repeat(np.arange(clicked.size), np.diff(start))
        taste = np.zeros((clicked.size, 2))
        np.add.at(taste[:, 0], row, 1.0)
        np.add.at(taste[:, 1], row, increments)
        return np.where(clicked[:, None], taste, 0.0)


class _Step:
    """The lookups and updates of one table."""

    def __init__(
        self, tables: Tables, part: Part, reads: Sequence[Read], rows: Mapping[Part, slice], update: bool
    ) -> None:
        self.grain, self.name = part
        self.table, self.update = tables.own(part) if update else tables[part], update
        self.listwise = self.grain in LISTWISE
        self.rows = rows.get(part, slice(0, 0))
        names = [read.name for read in reads[self.rows]]
        if self.grain == "position":
            names = ["exposures_all", "clicks_all"]
        self.columns = np.array([self.table.number[name] for name in names], np.int64)

    def run(self, work: _Work) -> Floats:
        """Process a chunk; return the numbers looked up, a view of the chunk's arrays (positions: a new array)."""
        numbers = work.chunk.by_list if self.listwise else work.chunk.by_candidate
        out = np.zeros((2, numbers.shape[1])) if self.grain == "position" else numbers[self.rows]
        if self.update and work.begin is not None:
            self.table.sweep(work.begin)
        shown, done = self._shown(work), self._done(work) if work.interactions.at.size else _NONE
        is_attribute = self.grain == "user_attribute"
        prior = np.empty(done.entry.size if is_attribute else 0)
        self.table.count(shown, done, self.columns, out, prior, update=self.update)
        if is_attribute:
            work.clicks[self.name] = done.start, prior
        return out

    def _shown(self, work: _Work) -> Rows:
        if self.grain == "position":
            return self._rows(work, work.candidates, np.ones((work.chunk.expected.size, 1)), _SHOWN[:1])
        if self.listwise:
            return self._rows(work, work.lists, work.of_lists, () if self.grain == "taste" else _SHOWN[:2])
        return self._rows(work, work.candidates, work.of_candidates, _SHOWN)

    def _done(self, work: _Work) -> Rows:
        side, amounts, amount = work.interactions, work.amounts, work.amounts.done[work.done]
        if self.grain == "taste":
            return self._rows(work, side, work.taste(self.name), ("clicks", "spread"))
        if self.grain == "position":
            valid = amounts.clicked[work.done] & (side.position >= 0)
            side, amount = side._replace(at=side.at[valid], position=side.position[valid]), amount[valid]
        return self._rows(work, side, amount, amounts.names)

    def _slots(self, work: _Work, side: _Side) -> tuple[Ints, Ints]:
        """First slot of each row, and the code of each slot's key; a row has one slot per value."""
        if self.name and self.grain != "taste":
            of_item = self.grain in ("attribute", "user_attribute")
            owner = side.version if of_item else side.owner
            values = work.layout.described.values[self.name] if of_item else side.context[self.name]
            other = {"user_attribute": side.user, "item_context": side.item}.get(self.grain)
            slots = slots_of(owner, values.start)
            high = np.zeros_like(side.at) if other is None else other
            return slots, codes_of(owner, values.start, values.value, high, slots)
        if self.grain == "user_item":
            codes = side.user << 32 | side.item
        elif self.grain == "everything":
            codes = np.zeros_like(side.at)
        else:
            codes = {"position": side.position, "item": side.item}.get(self.grain, side.user)
        return work.rows[: codes.size + 1], codes

    def _rows(self, work: _Work, side: _Side, amount: Floats, names: Sequence[str]) -> Rows:
        start, codes = self._slots(work, side)
        entry = self.table.locate(codes, insert=self.update)
        if not self.update:
            return _NONE._replace(at=side.at, start=start, entry=entry)
        quantities = self.table.counter.quantities
        pairs = [(n, quantities.index(name)) for n, name in enumerate(names) if name in quantities]
        columns = np.array(pairs, np.int64).reshape(-1, 2).T.copy()
        click = list(names).index("clicks") if "clicks" in names else -1
        return Rows(side.at, start, entry, amount, columns[0], columns[1], click)


def _n_log_n(n: Floats) -> Floats:
    return np.where(n > 0, n * np.log(np.maximum(n, 1.0)), 0.0)
