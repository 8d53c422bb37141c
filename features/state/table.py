"""One counter's entries in memory: arrays, and a hash table from a key's code to its row in them."""

import math
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.state.counters import Counter, column
from features.state.kernels import INSTANTS, NEVER, Entries, Rows, Rule, count, locate, rehash

_SMALLEST = 64
SWEPT_FROM = 128
"""Entries below which a table is not swept."""


class Index:
    """Codes numbered in the order they are first met."""

    def __init__(self, codes: NDArray[np.int64]) -> None:
        """`codes`: the first to be numbered, all different."""
        self._codes, self._size = codes, codes.size
        self._rehash()

    def __len__(self) -> int:
        return self._size

    @property
    def codes(self) -> NDArray[np.int64]:
        """The code of each number."""
        return self._codes[: self._size]

    def copy(self) -> "Index":
        """One that goes on by itself."""
        other = object.__new__(Index)
        other._codes, other._slots, other._size = self._codes.copy(), self._slots.copy(), self._size
        return other

    def locate(self, codes: NDArray[np.int64], *, insert: bool = True) -> NDArray[np.int64]:
        """Number of each code. New ones get the next, or -1 without `insert`."""
        found, reached = np.empty(codes.size, np.int64), 0
        while True:
            reached, self._size = locate(codes, reached, found, self._slots, self._codes, self._size, insert)
            if reached == codes.size:
                return found
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
        """`values` as in `kernels.Entries`, one row for each code."""
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
        """What a lookup may ask for, by name: see `kernels.count`."""

    @classmethod
    def empty(cls, counter: Counter) -> "Table":
        """A counter of nothing."""
        return cls(counter, np.empty(0, np.int64), np.empty((0, len(counter.columns) + INSTANTS)))

    def __len__(self) -> int:
        return len(self._index)

    @property
    def codes(self) -> NDArray[np.int64]:
        """The code of each entry's key."""
        return self._index.codes

    @property
    def entries(self) -> Entries:
        """The entries, without the room kept for more."""
        values = self._values[: len(self)]
        return Entries(values, values.view(np.int64))

    def copy(self) -> "Table":
        """One that goes on by itself."""
        other = object.__new__(Table)
        other.__dict__ |= self.__dict__
        other._index, other._values = self._index.copy(), self._values.copy()
        return other

    def locate(self, codes: NDArray[np.int64], *, insert: bool) -> NDArray[np.int64]:
        """Entry of each code; -1 for one that has none, where none is made."""
        size = len(self)
        found = self._index.locate(codes, insert=insert)
        if len(self) > size:
            if len(self) > self._values.shape[0]:
                self._values = _wider(self._values, size, max(2 * size, len(self), _SMALLEST))
            self.entries.instants[size:, -INSTANTS] = NEVER
        return found

    def count(
        self, shown: Rows, done: Rows, wanted: NDArray[np.int64], out: NDArray[np.float64],
        prior: NDArray[np.float64], *, update: bool,
    ) -> None:  # fmt: skip
        """See `kernels.count`."""
        count(self.entries, self.rule, shown, done, wanted, out, prior, update)

    def live(self, at: int) -> NDArray[np.bool_]:
        """Which entries have not expired at an instant."""
        last = self.entries.instants[:, -INSTANTS]
        fresh: NDArray[np.bool_] = last != NEVER
        if self.rule.ttl >= 0:
            fresh &= at - last <= self.rule.ttl
        return fresh

    def sweep(self, at: int) -> None:
        """Drop what has expired, if there are twice as many entries as after the last look: seldom, so cheaply."""
        if self.rule.ttl < 0 or len(self) <= max(2 * self._swept, SWEPT_FROM):
            return
        kept = self.live(at)
        if np.count_nonzero(kept) < 0.8 * len(self):
            self._values, self._index = self.entries.values[kept], Index(self.codes[kept])
        self._swept = len(self)


def _wider(held: NDArray[Any], size: int, room: int) -> NDArray[Any]:
    """The first rows, with room for more: what is not used takes no memory."""
    wider = np.empty((room, *held.shape[1:]), held.dtype)
    wider[:size] = held[:size]
    return wider
