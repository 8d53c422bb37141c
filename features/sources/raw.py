"""What readers return: unchecked rows in the columns of the schemas, each with its source file and line."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from features import schemas

RAW_LENGTH = 4000
"""Characters of a row's text that a reject quotes."""
FORGOTTEN = "forgotten_person"
"""Reject reason for rows of erased users; only source and line of such a row are kept."""

INSTANT = schemas.INSTANT
PLACE = pl.Schema({"source": pl.String, "line": pl.Int64, "raw": pl.String})
SCHEMAS = {
    "items": pl.Schema({**schemas.Items.create_empty().schema, **PLACE}),
    "impressions": pl.Schema({**schemas.Impressions.create_empty().schema, **PLACE}),
    "interactions": pl.Schema({**schemas.Interactions.create_empty().schema, **PLACE}),
    "rejects": pl.Schema({**schemas.Rejects.create_empty().schema, "at": INSTANT}),
}

Rule = tuple[str | pl.Expr, pl.Expr]
"""A reject reason (or an expression for it), and the condition under which a row is rejected."""

Hide = Callable[[pl.Series], pl.Series]
"""Maps user ids of a log to the ids to store. Readers call it before they build other ids from user ids."""

Quote = tuple[str, Callable[[pl.Series], pl.DataFrame]]
"""A source, and a function that reads rows again: line numbers → `line`, `raw`."""


def as_logged(users: pl.Series) -> pl.Series:
    """Return user ids unchanged."""
    return users


@dataclass(frozen=True)
class RawEvents:
    """Rows as read: the columns of the schemas, any of which may be null, plus `source`, `line`, `raw`.

    `rejects` are the rows that fit no table (broken text, an invalid instant), with `at`, the row's own time if
    it is readable. To save memory, `raw` may be null; then one of `quotes` reads it again.
    """

    items: pl.DataFrame
    impressions: pl.DataFrame
    interactions: pl.DataFrame
    rejects: pl.DataFrame
    quotes: Sequence[Quote] = ()

    @property
    def height(self) -> int:
        """Rows in all four tables."""
        tables = (self.items, self.impressions, self.interactions, self.rejects)
        return sum(table.height for table in tables)

    @property
    def size(self) -> int:
        """Rows in all four tables, and candidates of impressions: what memory grows with."""
        return self.height + int(self.impressions["candidates"].list.len().sum())

    def quote(self, rejects: pl.DataFrame) -> pl.DataFrame:
        """Fill in the `raw` of rejects, cut at 4,000 characters."""
        missing = rejects.filter(pl.col("raw").is_null()).group_by("source").agg(pl.col("line").unique())
        lines = dict(missing.iter_rows())
        texts = [
            quote(pl.Series("line", lines[source], pl.Int64)).select(
                pl.lit(source).alias("source"), "line", quoted="raw"
            )
            for source, quote in self.quotes
            if source in lines
        ]
        if texts:
            rejects = rejects.join(pl.concat(texts), on=["source", "line"], how="left", maintain_order="left")
            rejects = rejects.with_columns(pl.coalesce("raw", "quoted").alias("raw")).drop("quoted")
        # The file may have been replaced since.
        return rejects.with_columns(pl.col("raw").fill_null("").str.head(RAW_LENGTH))


def gather(
    items: Sequence[pl.DataFrame] = (),
    impressions: Sequence[pl.DataFrame] = (),
    interactions: Sequence[pl.DataFrame] = (),
    rejects: Sequence[pl.DataFrame] = (),
    quotes: Sequence[Quote] = (),
) -> RawEvents:
    """Concatenate a reader's tables and select the columns of the schemas."""
    return RawEvents(
        items=_stack("items", items),
        impressions=_stack("impressions", impressions),
        interactions=_stack("interactions", interactions),
        rejects=_stack("rejects", rejects),
        quotes=quotes,
    )


def concat_events(pieces: Sequence[RawEvents]) -> RawEvents:
    """Concatenate the tables of several pieces."""
    if len(pieces) == 1:
        return pieces[0]
    return gather(
        [piece.items for piece in pieces],
        [piece.impressions for piece in pieces],
        [piece.interactions for piece in pieces],
        [piece.rejects for piece in pieces],
        [quote for piece in pieces for quote in piece.quotes],
    )


def refuse(
    frame: pl.DataFrame, rules: Iterable[Rule], at: str | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split a frame (with `source`, `line`, `raw`) into valid rows and rejects.

    A reject has the reason of the first rule that it breaks and its time, from the column `at`. A condition
    that is null does not reject.
    """
    rules = list(rules)
    hits = frame.select(condition.any().alias(f"rule:{n}") for n, (_, condition) in enumerate(rules)).row(0)
    broken = {f"rule:{n}": rule for n, (rule, hit) in enumerate(zip(rules, hits, strict=True)) if hit}
    if not broken:
        return frame, SCHEMAS["rejects"].to_frame()
    flags = frame.select(condition.fill_null(False).alias(flag) for flag, (_, condition) in broken.items())
    refused = flags.select(pl.any_horizontal(pl.all())).to_series()
    reason = pl.coalesce(
        pl.when(flag).then(pl.lit(text) if isinstance(text, str) else text)
        for flag, (text, _) in broken.items()
    )
    when = pl.col(at) if at else pl.lit(None)
    rejects = pl.concat([frame.filter(refused), flags.filter(refused)], how="horizontal").select(
        "source", "line", reason.alias("reason"), "raw", when.cast(INSTANT).alias("at")
    )
    return frame.filter(~refused), rejects


def absent(column: str) -> pl.Expr:
    """Whether a text is null or empty."""
    return pl.col(column).fill_null("") == ""


def with_positions(lists: pl.Expr, item: str = "", propensity: str = "") -> pl.Expr:
    """Lists in the order shown → `candidates`: structs of `item_id`, `position` from 1, and `propensity`.

    The lists are of item ids; else of structs with the fields `item` and `propensity`.
    """
    entry = pl.element().struct.field
    return lists.list.eval(
        pl.struct(
            item_id=entry(item) if item else pl.element(),
            position=pl.int_range(1, pl.len() + 1, dtype=pl.Int32),
            propensity=(entry(propensity) if propensity else pl.lit(None)).cast(pl.Float64, strict=False),
        )
    )


def empty_context() -> pl.Expr:
    """A `context` column of empty lists."""
    return pl.lit([], SCHEMAS["impressions"]["context"]).alias("context")


def _stack(table: str, pieces: Sequence[pl.DataFrame]) -> pl.DataFrame:
    schema = SCHEMAS[table]
    if not pieces:
        return schema.to_frame()
    return pl.concat([piece.select(schema.names()).cast(schema) for piece in pieces])
