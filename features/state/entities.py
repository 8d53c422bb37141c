"""Ids as dense numbers, for as long as a process holds a state: the state's tables keep the ids themselves."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray


class Entities:
    """The ids of one kind (users, items, values of an attribute), numbered in the order they were first met.

    Numbers are never changed or reused: states that follow each other share one of these.
    """

    def __init__(self, ids: Sequence[str] = ()) -> None:
        self.ids = list(ids)
        self._numbers = {name: number for number, name in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def encode(self, ids: pl.Series) -> NDArray[np.int64]:
        """Number of each id; new ids get the next ones. No id may be null."""
        if len(ids) < 1000:
            return np.array([self._number(name) for name in ids], np.int64)
        # Each distinct id is looked up once; Polars' own codes hold for this series alone.
        codes = ids.cast(pl.Categorical(pl.Categories.random())).to_physical()
        first = codes.arg_unique()
        numbers = np.empty(int(codes.max()) + 1, np.int64)  # type: ignore[arg-type]
        numbers[codes.gather(first).to_numpy()] = [self._number(name) for name in ids.gather(first)]
        found: NDArray[np.int64] = numbers[codes.to_numpy()]
        return found

    def decode(self, numbers: NDArray[np.int64]) -> pl.Series:
        """Ids of numbers."""
        return pl.Series(self.ids, dtype=pl.String).gather(pl.Series(numbers))

    def ranks(self) -> NDArray[np.int64]:
        """Where each number's id stands among all ids as text."""
        order = pl.Series(self.ids, dtype=pl.String).arg_sort().to_numpy()
        ranks = np.empty(len(self.ids), np.int64)
        ranks[order] = np.arange(len(self.ids))
        return ranks

    def _number(self, name: str) -> int:
        number = self._numbers.setdefault(name, len(self.ids))
        if number == len(self.ids):
            self.ids.append(name)
        return number
