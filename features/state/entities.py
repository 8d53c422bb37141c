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
        self._numbers = _Numbers((name, number) for number, name in enumerate(ids))

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def ids(self) -> list[str]:
        """The id of each number."""
        return list(self._numbers)

    def encode(self, ids: pl.Series) -> NDArray[np.int64]:
        """Number of each id; new ids get the next ones. No id may be null."""
        if len(ids) < 1000:
            return self.number(ids.to_list())
        # Each distinct id is looked up once; Polars' own codes hold for this series alone.
        codes = ids.cast(pl.Categorical(pl.Categories.random())).to_physical()
        first = codes.arg_unique()
        numbers = np.empty(int(codes.max()) + 1, np.int64)  # type: ignore[arg-type]
        numbers[codes.gather(first).to_numpy()] = self.number(ids.gather(first).to_list())
        found: NDArray[np.int64] = numbers[codes.to_numpy()]
        return found

    def number(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """`encode` for a few ids."""
        return np.fromiter(map(self._numbers.__getitem__, ids), np.int64, len(ids))

    def decode(self, numbers: NDArray[np.int64]) -> pl.Series:
        """Ids of numbers."""
        return pl.Series(self.ids, dtype=pl.String).gather(pl.Series(numbers))

    def ranks(self) -> NDArray[np.int64]:
        """Where each number's id stands among all ids as text."""
        order = pl.Series(self.ids, dtype=pl.String).arg_sort().to_numpy()
        ranks = np.empty(len(self.ids), np.int64)
        ranks[order] = np.arange(len(self.ids))
        return ranks

    def forget(self, name: str) -> None:
        """Give an id a new number when it is met again."""
        if name in self._numbers:
            self._numbers = _Numbers(
                (f"(forgotten {number})" if known == name else known, number)
                for known, number in self._numbers.items()
            )


class _Numbers(dict[str, int]):
    """A number for each id, in order: an id that is missing gets the next one."""

    def __missing__(self, name: str) -> int:
        number = self[name] = len(self)
        return number
