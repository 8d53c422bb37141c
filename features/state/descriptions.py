"""Item versions as arrays: the version visible to each row, with its attribute values and numbers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.events.point_in_time import BORN_AT
from features.state.entities import Entities
from features.state.kernels import versions_seen

Ints = NDArray[np.int64]


class Values(NamedTuple):
    """Values of many owners: those of owner n are `value[start[n]:start[n + 1]]`."""

    start: Ints
    value: Ints


class Descriptions:
    """Item versions (`features.events.point_in_time.versions`) and their declared attributes."""

    def __init__(self, versions: pl.DataFrame, items: Entities, attributes: Mapping[str, Entities]) -> None:
        numbers = items.encode(versions["item_id"])
        known_at = versions["known_at"].to_physical().to_numpy()
        order = np.lexsort((known_at, numbers))
        self.found = versions[order]
        """The versions by item, then by `known_at`."""
        self._known_at = known_at[order]
        self._items = items
        self._columns: dict[tuple[str, str], NDArray[np.float64]] = {}
        self.texts: Any = None
        """Cache of `features.similarity`: the versions' vectors, for the next request."""
        self._first = starts(np.bincount(numbers, minlength=len(items)))
        self.values = {
            name: pairs_of(self.found["attributes"], name, entities) for name, entities in attributes.items()
        }

    def seen(self, item: Ints, at: Ints) -> Ints:
        """Latest version of each row's item known strictly before the row's instant, or -1."""
        return versions_seen(item, at, *self.by_item())

    def by_item(self) -> tuple[Ints, Ints]:
        """First version of each item, ending with the number of versions; and `known_at` of each version."""
        missing = len(self._items) + 1 - self._first.size
        if missing:
            self._first = np.append(self._first, np.full(missing, self._first[-1]))
        return self._first, self._known_at

    def arrivals(self) -> tuple[Ints, Ints, Ints]:
        """When each version became known, which version it replaces (-1: none), and all versions by that instant."""
        first, known_at = self.by_item()
        replaced = np.arange(known_at.size) - 1
        replaced[first[:-1][np.diff(first) > 0]] = -1
        return known_at, replaced, np.argsort(known_at, kind="stable")

    def column(self, name: str, part: str = "") -> NDArray[np.float64]:
        """A number of each version, and NaN at the end, for version -1; NaN where a version has none. Cached.

        `born_at`: publication in UTC microseconds, else when the version became known. `number`: the declared number
        `part`. `values`: how many values the attribute `part` has. `title_words`, `body_words`.
        """
        if (name, part) not in self._columns:
            if name == "values":
                numbers = np.diff(self.values[part].start).astype(float)
            else:
                values = (_COLUMNS[name] if name in _COLUMNS else _number(part)).cast(pl.Float64)
                numbers = self.found.select(values.fill_null(float("nan"))).to_series().to_numpy()
            self._columns[name, part] = np.append(numbers, np.nan)
        return self._columns[name, part]


_COLUMNS = {
    "born_at": BORN_AT.to_physical(),
    "title_words": pl.col("title").str.count_matches(r"\S+"),
    "body_words": pl.col("body").fill_null("").str.count_matches(r"\S+"),
}


def _number(name: str) -> pl.Expr:
    pair = pl.element().struct
    values = pl.col("numbers").list.eval(pl.when(pair.field("name") == name).then(pair.field("value")))
    return values.list.drop_nulls().list.first()


def pairs_of(pairs: pl.Series, name: str, entities: Entities) -> Values:
    """The distinct values of a name in each list of (name, value) pairs."""
    rows = (
        pairs.rename("pairs").to_frame().with_row_index("owner")
        .explode("pairs", empty_as_null=False, keep_nulls=False)
        .select("owner", pl.col("pairs").struct.unnest())
        .filter(pl.col("name") == name, pl.col("value").is_not_null())
        .unique(maintain_order=True)
    )  # fmt: skip
    return Values(
        starts(np.bincount(rows["owner"].to_numpy(), minlength=len(pairs))), entities.encode(rows["value"])
    )


def starts(sizes: NDArray[np.integer]) -> Ints:
    """First row of each part, ending with the number of rows."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
