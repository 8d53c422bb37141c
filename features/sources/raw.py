"""What a reader hands over: rows in the project's words, not yet judged, each with the place it came from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import polars as pl

from features import schemas

RAW_LENGTH = 4000
"""Characters of a row that are kept beside it."""

INSTANT = pl.Datetime("us", "UTC")
PLACE = pl.Schema({"source": pl.String, "line": pl.Int64, "raw": pl.String})
SCHEMAS = {
    "items": pl.Schema({**schemas.Items.create_empty().schema, **PLACE}),
    "impressions": pl.Schema({**schemas.Impressions.create_empty().schema, **PLACE}),
    "interactions": pl.Schema({**schemas.Interactions.create_empty().schema, **PLACE}),
    "rejects": pl.Schema({**schemas.Rejects.create_empty().schema, "at": INSTANT}),
}

Rule = tuple[str | pl.Expr, pl.Expr]
"""A reason (or the expression that names it), and the condition under which a row is refused for it."""


@dataclass(frozen=True)
class RawEvents:
    """Rows as read: the columns of the schemas, any of which may be null, plus `source`, `line`, `raw`.

    `rejects` are the rows that no table could hold (broken text, an instant that is none), with `at`: the
    row's own time where it is readable.
    """

    items: pl.DataFrame
    impressions: pl.DataFrame
    interactions: pl.DataFrame
    rejects: pl.DataFrame

    @property
    def height(self) -> int:
        """Rows in all four tables."""
        return sum(getattr(self, field.name).height for field in fields(self))


def gather(
    items: Sequence[pl.DataFrame] = (),
    impressions: Sequence[pl.DataFrame] = (),
    interactions: Sequence[pl.DataFrame] = (),
    rejects: Sequence[pl.DataFrame] = (),
) -> RawEvents:
    """Put a reader's pieces together: known columns in known order, `raw` cut at 4,000 characters."""
    return RawEvents(
        items=_stack("items", items),
        impressions=_stack("impressions", impressions),
        interactions=_stack("interactions", interactions),
        rejects=_stack("rejects", rejects),
    )


def refuse(
    frame: pl.DataFrame, rules: Iterable[Rule], at: str | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split a frame (with `source`, `line`, `raw`) into the rows that break no rule and the rejects.

    A rejected row carries the reason of the first rule it breaks and, from the column `at`, its time.
    A condition that is null (it could not be decided) does not refuse.
    """
    reason = pl.coalesce(
        pl.when(condition).then(pl.lit(text) if isinstance(text, str) else text) for text, condition in rules
    )
    judged = frame.with_columns(reason.alias("reason"))
    when = pl.col(at) if at else pl.lit(None)
    rejects = judged.filter(pl.col("reason").is_not_null()).select(
        "source", "line", "reason", "raw", when.cast(INSTANT).alias("at")
    )
    return judged.filter(pl.col("reason").is_null()).drop("reason"), rejects


def absent(column: str) -> pl.Expr:
    """Whether a text column holds nothing."""
    return pl.col(column).fill_null("") == ""


def numbered(lists: pl.Expr) -> pl.Expr:
    """A list of item ids in the order shown → `candidates`: structs of `item_id` and `position` from 1."""
    return lists.list.eval(
        pl.struct(
            item_id=pl.element(),
            position=pl.int_range(1, pl.len() + 1, dtype=pl.Int32),
        )
    )


def _stack(table: str, pieces: Sequence[pl.DataFrame]) -> pl.DataFrame:
    schema = SCHEMAS[table]
    if not pieces:
        return schema.to_frame()
    rows = pl.concat([piece.select(schema.names()).cast(schema) for piece in pieces])
    short = pl.when(pl.col("raw").str.len_bytes() > RAW_LENGTH).then(pl.col("raw").str.head(RAW_LENGTH))
    return rows.with_columns(short.otherwise(pl.col("raw")).alias("raw"))
