"""An item's fields → the columns of `Items`; a list's fields → its context. Fields are columns of lists of text."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import polars as pl

from features.config.project import Project
from features.config.sections import ItemFields
from features.sources.instants import read_instants
from features.sources.raw import SCHEMAS

FIELD = "field:"
"""Before a field's name in the column that holds its values: names are the log's own, and might be ours."""

TEXTS = pl.List(pl.String)


def before_everything(project: Project) -> datetime:
    """When an item without a time of its own became known: one microsecond before the first slice."""
    return project.slices.start - timedelta(microseconds=1)


def text_of(value: object) -> str | None:
    """A scalar as text: numbers without exponent or empty fraction, booleans as in JSON. None for NaN and no scalar."""
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
    """A field's values as text: a list's own scalars, a scalar as the only one. None for a field without value."""
    if value is None:
        return None
    values = value if isinstance(value, list) else [value]
    return [text_of(one) for one in values if one is None or text_of(one) is not None]


def names_of(declared: ItemFields) -> list[str]:
    """Every field of an item that the project names, once."""
    single = (declared.title, declared.body, declared.published_at)
    return [name for name in dict.fromkeys([*single, *declared.numeric, *declared.categorical]) if name]


def pick_fields(fields: pl.Series, names: Sequence[str]) -> pl.DataFrame:
    """A column `field:NAME` for each name, aligned: the values of the first of a row's fields that is called so.

    `fields`: lists of structs of `name` and `value`, a list of texts. Null where a row has no such field.
    """
    rows = pl.DataFrame({"row": pl.int_range(len(fields), dtype=pl.UInt32, eager=True), "field": fields})
    some = rows.filter(pl.col("field").list.len() > 0).explode("field").unnest("field")
    wide = (
        some.filter(pl.col("name").is_in(list(names)))
        .group_by("row")
        .agg(pl.col("value").filter(pl.col("name") == name).first().alias(FIELD + name) for name in names)
    )
    return rows.select("row").join(wide, on="row", how="left", maintain_order="left").drop("row")


def only(name: str) -> pl.Expr:
    """The value of a field that has one; null where it has none or several."""
    values = pl.col(FIELD + name).list
    return pl.when(values.len() == 1).then(values.first())


def item_rows(rows: pl.DataFrame, declared: ItemFields, time_format: str = "") -> pl.DataFrame:
    """Rows of `Items` from `item_id, known_at, source, line, raw` and the fields, a column `field:NAME` each.

    A declared number that is none, and a declared attribute that is empty, are absent from the row's list.
    `time_format` is that of `read_instants`.
    An empty name for the title (`items.title = ""`) says that items have none: their title is empty.
    """
    lacking = [FIELD + name for name in names_of(declared) if FIELD + name not in rows.columns]
    rows = rows.with_columns(pl.lit(None, TEXTS).alias(name) for name in lacking)
    nothing = pl.lit(None, pl.String)
    rows = rows.with_columns(
        title=only(declared.title) if declared.title else pl.lit(""),
        body=only(declared.body) if declared.body else nothing,
        published_at=only(declared.published_at) if declared.published_at else nothing,
        attributes=named_values(declared.categorical),
        numbers=_numbers(declared.numeric),
    )
    return rows.with_columns(read_instants(rows["published_at"], time_format)).select(
        SCHEMAS["items"].names()
    )


def named_values(names: Sequence[str]) -> pl.Expr:
    """`{name, value}` of each of the fields' values, in the order declared; empty and repeated ones left out."""
    entries = [
        pl.col(FIELD + name)
        .list.eval(pl.element().filter(pl.element() != ""))
        .list.unique(maintain_order=True)
        .list.eval(pl.struct(name=pl.lit(name), value=pl.element()))
        .fill_null([])
        for name in names
    ]
    return pl.concat_list(entries) if entries else pl.lit([], SCHEMAS["items"]["attributes"])


def _numbers(names: Sequence[str]) -> pl.Expr:
    truth = {"true": "1", "false": "0"}
    numbers = [
        only(name)
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
