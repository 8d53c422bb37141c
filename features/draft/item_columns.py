"""Guess title, body, time, numbers and attributes from an items table or fields of item events."""

from collections.abc import Sequence

import polars as pl

from features.draft.column_content import Column, mean, repeated
from features.draft.guesses import Guess, join_names, named
from features.draft.names import begins_with, parts, suggests

_MAX_FIELDS = 8
"""Most attributes and numbers declared: each adds feature columns."""


def guess_items(columns: Sequence[Column], key: str) -> list[Guess]:
    """Guess `items.title`, `body`, `published_at`, `numeric` and `categorical`; `key` is the id column."""
    left = [column for column in columns if column.name != key and column.rows]
    guesses: list[Guess] = []
    title = _title(left)
    guesses.append(_title_guess(title, left))
    left = [column for column in left if column is not title]
    body = _body(left)
    guesses.append(
        Guess("items.body", "", "no column has a longer text", "medium")
        if body is None
        else named("items.body", body.name, f"{body.words:.0f} words each", "body")
    )
    left = [column for column in left if column is not body]
    published = _published(left)
    if published is not None:
        evidence = f"{published.name} has instants"
        guesses.append(named("items.published_at", published.name, evidence, "published", "low"))
    left = [column for column in left if column.instants is None or column is published]
    attributes = _without_duplicates([c for c in left if _is_attribute(c)])
    numbers = [c for c in left if _is_number(c) and c is not published]
    guesses += _many("items.numeric", "numbers", numbers)
    unsupported = [c.name for c in attributes if c.separator not in ("", "|")]
    attributes = [c for c in attributes if c.name not in unsupported]
    guesses += _many("items.categorical", "short values that items share", attributes)
    if unsupported:
        evidence = (
            f"{join_names(unsupported)}: several values in a cell must be separated by | or be JSON lists"
        )
        guesses.append(Guess("items.categorical", None, evidence, "edit", "Convert these cells to use them."))
    return guesses


def _title(columns: Sequence[Column]) -> Column | None:
    texts = [
        c for c in columns if c.lists is None and c.numbers is None and c.instants is None and not _is_link(c)
    ]

    def fit(column: Column) -> tuple[bool, bool, bool, bool, float]:
        named, prose = suggests(column.name, "title"), column.words >= 1.7
        # Attributes repeat (`category_name`); titles mostly do not.
        varied = column.distinct > 0.1 * column.rows
        exact = 1 if begins_with(column.name, "title") else 0
        best = exact - column.length / 10_000 if varied else column.distinct
        return (
            named and varied,
            prose and varied and not suggests(column.name, "body"),
            named,
            prose and varied,
            best,
        )

    best = max(texts, key=fit, default=None)
    return best if best is not None and any(fit(best)[:4]) else None


def _title_guess(title: Column | None, left: Sequence[Column]) -> Guess:
    if title is None:
        evidence = (
            f"no column has a short, distinct text for each item, of {join_names([c.name for c in left])}"
        )
        return Guess("items.title", "", evidence, "low", "Which column, if any, is an item's title?")
    evidence = f"{title.words:.1f} words each, {title.distinct:,} distinct"
    if title.distinct <= 0.1 * title.rows:
        return Guess("items.title", title.name, evidence, "low", "Many items share it: is it a title?")
    return named("items.title", title.name, evidence, "title")


def _body(columns: Sequence[Column]) -> Column | None:
    texts = [c for c in columns if c.sentences and c.instants is None and not _is_link(c)]
    texts = [c for c in texts if suggests(c.name, "body") or (c.words >= 4 and c.distinct > 0.5 * c.rows)]
    return max(texts, key=lambda c: (suggests(c.name, "body"), c.length), default=None)


def _published(columns: Sequence[Column]) -> Column | None:
    times = [c for c in columns if c.instants is not None and not c.formats and not suggests(c.name, "known")]
    return max(times, key=lambda c: (suggests(c.name, "published"), c.filled), default=None)


def _is_attribute(column: Column) -> bool:
    """Whether values are short and shared by items."""
    if column.instants is not None or _is_link(column) or column.distinct < 2 or column.unique:
        return False
    if column.numbers is not None and not _is_code(column):
        return False
    values = column.values
    lengths = values.str.len_chars()
    return mean(lengths) <= 40 and mean(lengths > 120) == 0 and repeated(values) >= 0.3


def _is_code(column: Column) -> bool:
    """Whether numbers are codes (`product_type_no`, `category`) with few values."""
    named = _is_identifier(column) or suggests(column.name, "attribute")
    return column.integral and named and column.distinct <= max(3, 0.2 * column.rows)


def _is_number(column: Column) -> bool:
    counted = column.numbers is not None and column.distinct > 1
    return counted and not _is_identifier(column) and not _is_code(column)


def _is_identifier(column: Column) -> bool:
    return column.integral and not {"id", "ids", "code", "key", "no", "nr"}.isdisjoint(parts(column.name))


def _is_link(column: Column) -> bool:
    links = column.texts.head(100).str.contains(r"^(https?://|www\.|/)|\.(jpe?g|png|webp)$")
    return mean(links) > 0.5


def _without_duplicates(columns: list[Column]) -> list[Column]:
    """Drop codes (`product_type_no`) that duplicate another column (`product_type_name`)."""
    unique: list[Column] = []
    for column in sorted(columns, key=lambda c: c.numbers is not None):
        if not any(_is_duplicate(other, column) for other in unique):
            unique.append(column)
    return [column for column in columns if column in unique]


def _is_duplicate(one: Column, other: Column) -> bool:
    """Whether two columns of single values group the items identically."""
    if one.lists is not None or other.lists is not None or one.distinct != other.distinct:
        return False
    pairs = pl.DataFrame({"one": one.cells, "other": other.cells}).drop_nulls()
    return pairs.n_unique() == one.distinct


def _many(key: str, what: str, columns: list[Column]) -> list[Guess]:
    if not columns:
        return []
    chosen = sorted(columns, key=lambda c: -c.filled)[:_MAX_FIELDS]
    names = tuple(column.name for column in columns if column in chosen)
    evidence = f"{what}: " + join_names([f"{column.name} ({column.distinct:,} values)" for column in chosen])
    left = [column.name for column in columns if column not in chosen]
    reviews = [f"Left out: {join_names(left)}."] if left else []
    totals = [name for name in names if what == "numbers" and suggests(name, "total")]
    if totals:
        reviews.append(
            f"Remove {join_names(totals)} if they are totals over the log's own period: they leak the future."
        )
    return [Guess(key, names, evidence, "medium", " ".join(reviews))]
