"""One counter's entries in memory: arrays, and a hash table from a key's code to its row."""

import math
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.state.counters import Counter, column
from features.state.kernels import INSTANTS, NEVER, Entries, Rows, Rule, count, locate, rehash

_SMALLEST = 64
SWEPT_FROM = 128
"""Smaller tables are not swept."""


class Index:
    """Codes, numbered in the order of their first appearance."""

    def __init__(self, codes: NDArray[np.int64]) -> None:
        """`codes`: the first codes, all different."""
        self._codes, self._size = codes, codes.size
        self._rehash()

    def __len__(self) -> int:
        return self._size

    @property
    def codes(self) -> NDArray[np.int64]:
        """The code of each number."""
        return self._codes[: self._size]

    def copy(self) -> "Index":
        """An independent copy."""
        other = object.__new__(Index)
        other._codes = _wider(self._codes, self._size, self._codes.size)
        other._slots, other._size = self._slots.copy(), self._size
        return other

    def locate(self, codes: NDArray[np.int64], *, insert: bool = True) -> NDArray[np.int64]:
        """Number of each code. New codes get the next numbers, or -1 without `insert`."""
        numbers, reached = np.empty(codes.size, np.int64), 0
        while True:
            reached, self._size = locate(
                codes, reached, numbers, self._slots, self._codes, self._size, insert
            )
            if reached == codes.size:
                return numbers
            self._rehash()

    def _rehash(self) -> None:
        """Make room for twice as many codes."""
        slots = max(_SMALLEST, 1 << (3 * self._size).bit_length())
        self._codes = _wider(self._codes, self._size, slots // 2)
        self._slots = np.full(slots, -1, np.int32)
        rehash(self._codes, self._size, self._slots)


class Table:
    """The entries of one counter."""

    def __init__(self, counter: Counter, codes: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """`values` as in `kernels.Entries`, one row per code."""
        self.counter = counter
        self._index = Index(codes)
        self._values = values
        self._swept = codes.size
        rates = [
            0.0 if seconds is None else math.log(2) / (seconds * 1e6) for _, seconds in counter.half_lives
        ]
        ttl = -1 if counter.ttl is None else counter.ttl // timedelta(microseconds=1)
        columns = counter.columns
        clicks = columns.index(column("clicks", "none"))
        self.rule = Rule(np.array(rates), ttl, clicks)
        self.number = {name: n for n, name in enumerate((*columns, "last_at", "clicked_at", "clicked"))}
        """Column numbers for `kernels.count`, by name."""

    @classmethod
    def empty(cls, counter: Counter) -> "Table":
        """A table without entries."""
        return cls(counter, np.empty(0, np.int64), np.empty((0, len(counter.columns) + INSTANTS)))

    def __len__(self) -> int:
        return len(self._index)

    @property
    def codes(self) -> NDArray[np.int64]:
        """The code of each entry's key."""
        return self._index.codes

    @property
    def entries(self) -> Entries:
        """The entries, without spare capacity."""
        values = self._values[: len(self)]
        return Entries(values, values.view(np.int64))

    def copy(self) -> "Table":
        """An independent copy."""
        other = object.__new__(Table)
        other.__dict__ |= self.__dict__
        other._index = self._index.copy()
        other._values = _wider(self._values, len(self), self._values.shape[0])
        return other

    def locate(self, codes: NDArray[np.int64], *, insert: bool) -> NDArray[np.int64]:
        """Entry of each code. New codes get new entries, or -1 without `insert`."""
        size = len(self)
        entries = self._index.locate(codes, insert=insert)
        if len(self) > size:
            if len(self) > self._values.shape[0]:
                self._values = _wider(self._values, size, max(2 * size, len(self), _SMALLEST))
            self.entries.instants[size:, -INSTANTS] = NEVER
        return entries

    def count(
        self, shown: Rows, done: Rows, columns: NDArray[np.int64], out: NDArray[np.float64],
        prior: NDArray[np.float64], *, update: bool,
    ) -> None:  # fmt: skip
        """See `kernels.count`."""
        count(self.entries, self.rule, shown, done, columns, out, prior, update)

    def live(self, at: int) -> NDArray[np.bool_]:
        """Which entries have not expired at an instant."""
        last = self.entries.instants[:, -INSTANTS]
        fresh: NDArray[np.bool_] = last != NEVER
        if self.rule.ttl >= 0:
            fresh &= at - last <= self.rule.ttl
        return fresh

    def sweep(self, at: int) -> None:
        """Drop expired entries once the table has doubled since the last sweep, so that sweeps stay rare."""
        if self.rule.ttl < 0 or len(self) <= max(2 * self._swept, SWEPT_FROM):
            return
        live = self.live(at)
        if np.count_nonzero(live) < 0.8 * len(self):
            self._values, self._index = self.entries.values[live], Index(self.codes[live])
        self._swept = len(self)


def _wider(array: NDArray[Any], size: int, capacity: int) -> NDArray[Any]:
    """The first `size` rows in an array of `capacity` rows: pages of unused rows take no memory."""
    wider = np.empty((capacity, *array.shape[1:]), array.dtype)
    wider[:size] = array[:size]
    return wider
