"""What a column of a sample holds: instants, lists, numbers, flags, ids, short values or sentences."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import cast

import polars as pl

from features.draft.names import says
from features.draft.time_formats import find_forms, read_form
from features.sources.cells import read_lists, read_texts
from features.sources.instants import read_instants

NEARLY_ALL = 0.95
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_FLAGS = frozenset({"0", "1", "0.0", "1.0", "true", "false", "yes", "no", "t", "f", "y", "n"})
_ID = r"^[\w.:/+-]{1,64}$"
_PARTS = {r"\s": " ", ",": ",", "|": "|", ";": ";"}
"""How a cell is split, as a character class → the character."""


@dataclass(frozen=True)
class Column:
    """One column of a sample, with what can be said of its cells."""

    name: str
    cells: pl.Series

    @cached_property
    def texts(self) -> pl.Series:
        """The filled cells as text, without blanks around; empty where cells are lists."""
        texts = read_texts(self.cells).str.strip_chars()
        return texts.filter((texts != "").fill_null(False))

    @cached_property
    def rows(self) -> int:
        """Cells that hold something."""
        if isinstance(self.cells.dtype, pl.List | pl.Array):
            return len(self.cells) - self.cells.null_count()
        return len(self.texts)

    @property
    def filled(self) -> float:
        """Share of the cells that hold something."""
        return self.rows / len(self.cells) if len(self.cells) else 0.0

    @cached_property
    def distinct(self) -> int:
        """Different values; of a list column, different elements."""
        return self.values.n_unique()

    @cached_property
    def values(self) -> pl.Series:
        """Single values as text: the cells, or the elements of the lists."""
        if self.lists is None:
            return self.texts
        elements = self.lists.explode(empty_as_null=False, keep_nulls=False)
        return elements.filter((elements != "").fill_null(False))

    @property
    def unique(self) -> bool:
        """Whether no value stands twice."""
        return self.rows > 1 and self.lists is None and self.distinct == self.rows

    @cached_property
    def words(self) -> float:
        """Mean number of words of a filled cell."""
        return mean(self.texts.head(5000).str.count_matches(r"\S+"))

    @cached_property
    def length(self) -> float:
        """Mean number of characters of a filled cell."""
        return mean(self.texts.head(5000).str.len_chars())

    @cached_property
    def numbers(self) -> pl.Series | None:
        """The filled cells as numbers, where nearly all are."""
        if self.lists is not None or not self.rows or self.cells.dtype.is_temporal():
            return None
        numeric = self.texts.str.contains(_NUMBER)
        if mean(numeric) < NEARLY_ALL:
            return None
        return self.texts.filter(numeric).cast(pl.Float64, strict=False).drop_nulls()

    @cached_property
    def whole(self) -> bool:
        """Whether the cells are whole numbers."""
        return self.numbers is not None and bool((self.numbers == self.numbers.floor()).all())

    @cached_property
    def flag(self) -> bool:
        """Whether the cells are 0 and 1, true and false, or yes and no."""
        if self.cells.dtype == pl.Boolean:
            return True
        return self.rows > 0 and self.lists is None and set(self.texts.str.to_lowercase().unique()) <= _FLAGS

    @cached_property
    def forms(self) -> list[str]:
        """strptime forms of the cells, where the name says time and they are neither ISO 8601 nor epoch numbers."""
        named = says(self.name, "time") or says(self.name, "known") or says(self.name, "published")
        if not named or self.cells.dtype.is_nested() or self.words > 5 or self._is_instant_text:
            return []
        return find_forms(self.texts) if self.rows > 1 else []

    @cached_property
    def instants(self) -> pl.Series | None:
        """The cells as instants, aligned, where nearly all filled ones are plausible ones.

        A number is one only if its name says so, or if it never falls and lies between 2000 and now.
        """
        if isinstance(self.cells.dtype, pl.List | pl.Array) or not self.rows:
            return None
        if self.forms:
            texts = read_texts(self.cells).str.strip_chars()
            return read_form(texts, self.forms[0]).alias(self.name)
        read = read_instants(self.cells).alias(self.name)
        return read if self._are_plausible(read.drop_nulls()) else None

    def _are_plausible(self, found: pl.Series) -> bool:
        numeric = self.numbers is not None
        named = says(self.name, "time") or says(self.name, "known") or says(self.name, "published")
        first = datetime(2000 if numeric and not named else 1900, 1, 1, tzinfo=UTC)
        in_time = mean(found.is_between(first, datetime.now(UTC) + timedelta(days=366)))
        if len(found) < NEARLY_ALL * self.rows or in_time < NEARLY_ALL:
            return False
        if not numeric:
            return True
        # Small numbers are counts or codes: as seconds they are of 1970.
        later = (
            mean(found > datetime(1980, 1, 1, tzinfo=UTC)) > 0.1
            or mean(found < datetime(1969, 1, 1, tzinfo=UTC)) > 0.1
        )
        return later and (named or (found.is_sorted() and found.n_unique() > 1))

    @cached_property
    def lists(self) -> pl.Series | None:
        """The cells as lists of text, aligned, where the cells are lists or read as lists."""
        return self._lists[0]

    @cached_property
    def separator(self) -> str:
        """The character between the values of a cell, `{}` for Postgres arrays; empty for real and JSON lists."""
        return self._lists[1]

    @cached_property
    def _lists(self) -> tuple[pl.Series | None, str]:
        if isinstance(self.cells.dtype, pl.List | pl.Array):
            return read_lists(self.cells, r"\s"), ""
        if self.cells.dtype != pl.String or not self.rows or self._is_instant_text:
            return None, ""
        if mean(self.texts.str.starts_with("[") & self.texts.str.ends_with("]")) == 1:
            return read_lists(self.cells, r"\s"), ""
        if mean(self.texts.str.contains(r"^\{[^{}:]*\}$")) == 1:
            return self.cells.str.strip_chars(" {}").str.split(",").list.eval(
                pl.element().str.strip_chars()
            ), ""
        for separator, character in _PARTS.items():
            lists = self.cells.str.strip_chars().str.extract_all(f"[^{separator}]+")
            several = lists.filter(lists.list.len() > 1)
            if len(several) < max(2, 0.2 * self.rows):
                continue
            elements = several.head(2000).explode().str.strip_chars()
            ids = mean(elements.str.contains(_ID) & elements.str.contains(r"\d"))
            if ids >= NEARLY_ALL or (character in "|;" and self._repeats(elements)):
                return lists.list.eval(pl.element().str.strip_chars()), character
        return None, ""

    @staticmethod
    def _repeats(elements: pl.Series) -> bool:
        return mean(elements.str.len_chars() > 60) == 0 and repeated(elements) > 0.5

    @property
    def _is_instant_text(self) -> bool:
        """Whether the first cells read as instants after 1980: below, they are small numbers."""
        first = self.texts.head(200)
        after = read_instants(first).drop_nulls() > datetime(1980, 1, 1, tzinfo=UTC)
        return after.sum() >= NEARLY_ALL * len(first)

    @property
    def sentences(self) -> bool:
        """Whether the cells are prose: several words, and not lists."""
        return self.lists is None and self.numbers is None and self.words >= 1.7

    @property
    def identifier(self) -> bool:
        """Whether single cells can be ids: one word each, no fractions, no instants, more than two values."""
        if self.lists is not None or not self.rows or self.distinct < 2 or self.cells.dtype.is_temporal():
            return False
        if self.numbers is not None and not self.whole:
            return False
        return mean(self.texts.head(5000).str.contains(_ID)) >= NEARLY_ALL


def mean(values: pl.Series) -> float:
    """Mean of numbers, or share of flags that are true; 0 where there are none."""
    return float(cast(float, values.mean() or 0.0))


def repeated(values: pl.Series) -> float:
    """Share of the values that occur more than once."""
    return mean(values.is_duplicated())


def overlap(values: pl.Series, known: pl.Series) -> float:
    """Share of the different values that are among the known ones."""
    different = values.unique()
    return mean(different.is_in(known.unique().implode()))


def describe(frame: pl.DataFrame) -> list[Column]:
    """Every column of a sample."""
    return [Column(name, frame[name]) for name in frame.columns]
