"""Fields of items → the columns of `Items`; fields of impressions → their context. Fields are lists of text."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import polars as pl

from features.config.sections import Context, ItemFields
from features.sources.instants import read_instants
from features.sources.raw import SCHEMAS

FIELD = "field:"
"""Prefix of columns that hold a field: the log's own names might clash with ours."""

TEXTS = pl.List(pl.String)
MAX_QUERY = 500
"""Characters of a query that are kept."""


def before_first_slice(start: datetime) -> datetime:
    """When an undated item became known: one microsecond before the first slice."""
    return start - timedelta(microseconds=1)


def text_of(value: object) -> str | None:
    """A scalar as text: numbers without exponent or zero fraction, booleans as in JSON. None for NaN and others."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return f"{Decimal(repr(value)):f}".removesuffix(".0")
    return str(value) if isinstance(value, int) else None


def texts_of(value: object) -> list[str | None] | None:
    """A field's values as text: the scalars of a list, or one scalar. None for a field without value."""
    if value is None:
        return None
    values = value if isinstance(value, list) else [value]
    return [text_of(entry) for entry in values if entry is None or text_of(entry) is not None]


def names_of(declared: ItemFields) -> list[str]:
    """The item fields that the project declares, each once."""
    single = (declared.title, declared.body, declared.published_at)
    return [name for name in dict.fromkeys([*single, *declared.numeric, *declared.categorical]) if name]


def pick_fields(fields: pl.Series, names: Sequence[str]) -> pl.DataFrame:
    """Extract fields by name into columns `field:NAME`, aligned with `fields`; null where a row lacks the field.

    `fields`: lists of structs of `name` and `value`, a list of text. The first field of a name counts.
    """
    rows = pl.DataFrame({"row": pl.int_range(len(fields), dtype=pl.UInt32, eager=True), "field": fields})
    entries = rows.filter(pl.col("field").list.len() > 0).explode("field").unnest("field")
    wide = (
        entries.filter(pl.col("name").is_in(list(names)))
        .group_by("row")
        .agg(pl.col("value").filter(pl.col("name") == name).first().alias(FIELD + name) for name in names)
    )
    return rows.select("row").join(wide, on="row", how="left", maintain_order="left").drop("row")


def single_value(name: str) -> pl.Expr:
    """A field's value if it has exactly one, else null."""
    values = pl.col(FIELD + name).list
    return pl.when(values.len() == 1).then(values.first())


def item_rows(rows: pl.DataFrame, declared: ItemFields, time_format: str = "") -> pl.DataFrame:
    """Build rows of `Items` from `item_id, known_at, source, line, raw` and columns `field:NAME`.

    Values of numeric fields that are not finite numbers and empty attributes are left out. `time_format` is that of
    `read_instants`. If the project declares no title (`items.title = ""`), titles are empty.
    """
    missing = [FIELD + name for name in names_of(declared) if FIELD + name not in rows.columns]
    rows = rows.with_columns(pl.lit(None, TEXTS).alias(name) for name in missing)
    null = pl.lit(None, pl.String)
    rows = rows.with_columns(
        title=single_value(declared.title) if declared.title else pl.lit(""),
        body=single_value(declared.body) if declared.body else null,
        published_at=single_value(declared.published_at) if declared.published_at else null,
        attributes=named_values(declared.categorical),
        numbers=_numbers(declared.numeric),
    )
    return rows.with_columns(read_instants(rows["published_at"], time_format)).select(
        SCHEMAS["items"].names()
    )


def named_values(names: Sequence[str]) -> pl.Expr:
    """`{name, value}` of each field value, in the order declared, without empty and repeated values."""
    entries = [
        pl.col(FIELD + name)
        .list.eval(pl.element().filter(pl.element() != ""))
        .list.unique(maintain_order=True)
        .list.eval(pl.struct(name=pl.lit(name), value=pl.element()))
        .fill_null([])
        for name in names
    ]
    return pl.concat_list(entries) if entries else pl.lit([], SCHEMAS["items"]["attributes"])


UNLABELLED = "(unlabelled)"
"""Name of the context entry that marks impressions without a known label; hardly the name of a field."""


def context_values(context: Context) -> pl.Expr:
    """The column `context` of impressions: values of the declared fields, and the query as `normalised`."""
    if not context.query:
        return named_values(context.categorical)
    query = pl.struct(
        name=pl.lit(context.query), value=normalised(pl.col(FIELD + context.query).list.join(" "))
    )
    return pl.concat_list(
        named_values(context.categorical),
        pl.concat_list(query).list.eval(pl.element().filter(pl.element().struct.field("value") != "")),
    )


def normalised(text: pl.Expr) -> pl.Expr:
    """A query as it is kept: Unicode form NFKC, lower case, single spaces, at most 500 characters."""
    lower = text.str.normalize("NFKC").str.to_lowercase()
    return lower.str.replace_all(r"\s+", " ").str.strip_chars().str.head(MAX_QUERY)


def _numbers(names: Sequence[str]) -> pl.Expr:
    truth = {"true": "1", "false": "0"}
    numbers = [
        single_value(name)
        .str.strip_chars()
        .str.to_lowercase()
        .replace(truth)
        .cast(pl.Float64, strict=False)
        .alias(name)
        for name in names
    ]
    entries = [
        pl.struct(name=pl.lit(name), value=number) for name, number in zip(names, numbers, strict=True)
    ]
    finite = pl.element().filter(pl.element().struct.field("value").is_finite())
    return pl.concat_list(entries).list.eval(finite) if entries else pl.lit([], SCHEMAS["items"]["numbers"])
