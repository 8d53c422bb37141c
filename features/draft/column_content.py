"""What a sample's column contains: instants, lists, numbers, flags, ids, short values or sentences."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import cast

import polars as pl

from features.draft.names import suggests
from features.draft.times import find_formats, read_format
from features.sources.cells import read_lists, read_texts
from features.sources.instants import read_instants

NEARLY_ALL = 0.95
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_FLAGS = frozenset({"0", "1", "0.0", "1.0", "true", "false", "yes", "no", "t", "f", "y", "n"})
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_ID = r"^[\w.:/+-]{1,64}$"
_SEPARATORS = {r"\s": " ", ",": ",", "|": "|", ";": ";"}
"""Separators of lists: character class → character."""


@dataclass(frozen=True)
class Column:
    """A column of a sample and its properties."""

    name: str
    cells: pl.Series

    @cached_property
    def texts(self) -> pl.Series:
        """Non-empty cells as stripped text; none if cells are lists."""
        texts = read_texts(self.cells).str.strip_chars()
        return texts.filter((texts != "").fill_null(False))

    @cached_property
    def rows(self) -> int:
        """Number of non-empty cells."""
        if isinstance(self.cells.dtype, pl.List | pl.Array):
            return len(self.cells) - self.cells.null_count()
        return len(self.texts)

    @property
    def filled(self) -> float:
        """Share of non-empty cells."""
        return self.rows / len(self.cells) if len(self.cells) else 0.0

    @cached_property
    def distinct(self) -> int:
        """Number of distinct values, or of distinct elements of lists."""
        return self.values.n_unique()

    @cached_property
    def values(self) -> pl.Series:
        """Values as text: cells, or elements of lists."""
        if self.lists is None:
            return self.texts
        elements = self.lists.explode(empty_as_null=False, keep_nulls=False)
        return elements.filter((elements != "").fill_null(False))

    @property
    def unique(self) -> bool:
        """Whether no value repeats."""
        return self.rows > 1 and self.lists is None and self.distinct == self.rows

    @cached_property
    def words(self) -> float:
        """Mean words of a non-empty cell; five characters of a script without spaces count as one."""
        texts = self.texts.head(5000)
        return mean(texts.str.count_matches(r"\S+")) + mean(texts.str.count_matches(_UNSPACED)) / 5

    @cached_property
    def length(self) -> float:
        """Mean characters of a non-empty cell."""
        return mean(self.texts.head(5000).str.len_chars())

    @cached_property
    def numbers(self) -> pl.Series | None:
        """Non-empty cells as numbers, or None unless nearly all are numbers."""
        if self.lists is not None or not self.rows or self.cells.dtype.is_temporal():
            return None
        numeric = self.texts.str.contains(_NUMBER)
        if mean(numeric) < NEARLY_ALL:
            return None
        return self.texts.filter(numeric).cast(pl.Float64, strict=False).drop_nulls()

    @cached_property
    def integral(self) -> bool:
        """Whether the cells are integers."""
        return self.numbers is not None and bool((self.numbers == self.numbers.floor()).all())

    @cached_property
    def flag(self) -> bool:
        """Whether the cells are 0 and 1, true and false, or yes and no."""
        if self.cells.dtype == pl.Boolean:
            return True
        return self.rows > 0 and self.lists is None and set(self.texts.str.to_lowercase().unique()) <= _FLAGS

    @property
    def _named_as_time(self) -> bool:
        return any(suggests(self.name, role) for role in ("time", "known", "published"))

    @cached_property
    def formats(self) -> list[str]:
        """strptime formats of the cells, if the name suggests times and they are neither ISO 8601 nor epoch numbers."""
        if not self._named_as_time or self.cells.dtype.is_nested() or self.words > 5 or self._is_instant_text:
            return []
        return find_formats(self.texts) if self.rows > 1 else []

    @cached_property
    def instants(self) -> pl.Series | None:
        """The cells as instants, aligned, or None unless nearly all are plausible.

        Numbers are instants only if the column's name suggests it, or if they are sorted and between 2000 and now.
        """
        if isinstance(self.cells.dtype, pl.List | pl.Array) or not self.rows:
            return None
        if self.formats:
            texts = read_texts(self.cells).str.strip_chars()
            return read_format(texts, self.formats[0]).alias(self.name)
        read = read_instants(self.cells).alias(self.name)
        return read if self._are_plausible(read.drop_nulls()) else None

    def _are_plausible(self, instants: pl.Series) -> bool:
        numeric, named = self.numbers is not None, self._named_as_time
        first = datetime(2000 if numeric and not named else 1900, 1, 1, tzinfo=UTC)
        in_time = mean(instants.is_between(first, datetime.now(UTC) + timedelta(days=366)))
        if len(instants) < NEARLY_ALL * self.rows or in_time < NEARLY_ALL:
            return False
        if not numeric:
            return True
        # Small numbers are counts or codes: as seconds they are in 1970.
        later = (
            mean(instants > datetime(1980, 1, 1, tzinfo=UTC)) > 0.1
            or mean(instants < datetime(1969, 1, 1, tzinfo=UTC)) > 0.1
        )
        return later and (named or (instants.is_sorted() and instants.n_unique() > 1))

    @cached_property
    def lists(self) -> pl.Series | None:
        """The cells as lists of text, aligned, or None unless they are lists or can be parsed as lists."""
        return self._lists[0]

    @cached_property
    def separator(self) -> str:
        """The character between the values of a cell; empty for list cells, JSON and Postgres arrays."""
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
            lists = self.cells.str.strip_chars(" {}").str.split(",")
            return lists.list.eval(pl.element().str.strip_chars()), ""
        for separator, character in _SEPARATORS.items():
            lists = self.cells.str.strip_chars().str.extract_all(f"[^{separator}]+")
            several = lists.filter(lists.list.len() > 1)
            if len(several) < max(2, 0.2 * self.rows):
                continue
            elements = several.head(2000).explode().str.strip_chars()
            ids = mean(elements.str.contains(_ID) & elements.str.contains(r"\d"))
            repeats = mean(elements.str.len_chars() > 60) == 0 and repeated(elements) > 0.5
            if ids >= NEARLY_ALL or (character in "|;" and repeats):
                return lists.list.eval(pl.element().str.strip_chars()), character
        return None, ""

    @property
    def _is_instant_text(self) -> bool:
        """Whether the first cells parse as instants after 1980; earlier ones are small numbers."""
        first = self.texts.head(200)
        after = read_instants(first).drop_nulls() > datetime(1980, 1, 1, tzinfo=UTC)
        return after.sum() >= NEARLY_ALL * len(first)

    @property
    def sentences(self) -> bool:
        """Whether the cells are prose: several words, no lists."""
        return self.lists is None and self.numbers is None and self.words >= 1.7

    @property
    def identifier(self) -> bool:
        """Whether the cells can be ids: one word each, no fractions, no instants, at least two values."""
        if self.lists is not None or not self.rows or self.distinct < 2 or self.cells.dtype.is_temporal():
            return False
        if self.numbers is not None and not self.integral:
            return False
        return mean(self.texts.head(5000).str.contains(_ID)) >= NEARLY_ALL


def mean(values: pl.Series) -> float:
    """Mean of numbers, or share of true flags; 0 for an empty series."""
    return float(cast(float, values.mean() or 0.0))


def repeated(values: pl.Series) -> float:
    """Share of values that occur more than once."""
    return mean(values.is_duplicated())


def overlap(values: pl.Series, known: pl.Series) -> float:
    """Share of distinct values that are known."""
    different = values.unique()
    return mean(different.is_in(known.unique().implode()))


def describe(frame: pl.DataFrame) -> list[Column]:
    """All columns of a sample."""
    return [Column(name, frame[name]) for name in frame.columns]
