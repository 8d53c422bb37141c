"""Convert rows of a mapped table to the event types; reject those with cells that cannot be converted."""

from collections.abc import Callable
from functools import partial

import polars as pl

from features.config.sections import ReaderConfig, TableMapping
from features.sources.cells import read_grades, read_id_lists, read_ids, read_lists, read_values
from features.sources.instants import read_instants
from features.sources.item_rows import FIELD, TEXTS
from features.sources.raw import INSTANT, Hide, absent, refuse


def split_rejects(
    frame: pl.DataFrame, config: ReaderConfig, mapping: TableMapping, separator: str, hide: Hide
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split a table into converted rows and rejects.

    Converted rows have `impression_id, user_id, session_id, at, known` and either `items, clicked_items` (lists) or
    `item_id` and perhaps `grade`. With a column of propensities, `items` are structs of `item_id` and `propensity`, or
    there is a column `propensity`.
    """
    instants = partial(read_instants, time_format=mapping.time_format)
    at = instants(frame["time"])
    unread = (at.is_null() & frame["time"].is_not_null()).alias("time_unread")
    columns: list[pl.Series | pl.Expr] = [
        hide(read_ids(frame["user"])).alias("user_id"),
        at.alias("at"),
        unread,
    ]
    columns.append(_read(frame, "known_at", instants, INSTANT).alias("known"))
    columns.append(_read(frame, "session", read_ids, pl.String()).alias("session_id"))
    columns += [
        _read(frame, FIELD + name, partial(read_values, split=name != config.context.query), TEXTS).alias(
            FIELD + name
        )
        for name in config.context.fields
    ]
    rules = [
        ("missing_field:user", absent("user_id")),
        ("bad_timestamp", pl.col("time_unread")),
        ("missing_field:timestamp", pl.col("at").is_null()),
    ]
    if "known_at" in frame.columns:
        rules.append(("bad_timestamp:known_at", pl.col("known").is_null() & pl.col("known_at").is_not_null()))
    moment = pl.concat_str("user_id", pl.col("at").dt.epoch("us"), separator="@")
    if mapping.shape == "lists":
        columns += [
            read_id_lists(frame[name], separator).alias(key)
            for name, key in (("item", "items"), ("clicked", "clicked_items"))
        ]
        rules += [
            ("missing_field:items", pl.col("item").is_null()),
            ("bad_list:items", pl.col("items").is_null()),
            ("empty_list", pl.col("items").list.len() == 0),
            ("bad_list:clicked", pl.col("clicked_items").is_null() & pl.col("clicked").is_not_null()),
        ]
    else:
        columns.append(read_ids(frame["item"]).alias("item_id"))
        rules.append(("missing_field:item", absent("item_id")))
        moment = moment if mapping.shape == "candidates" else pl.concat_str(moment, "item_id", separator=":")
    if mapping.propensity is not None:
        read = partial(_number_lists, separator=separator) if mapping.shape == "lists" else read_grades
        columns.append(read(frame["propensities"]).alias("propensity"))
        bad = pl.col("propensity").is_null() & pl.col("propensities").is_not_null()
        rules.append(("bad_number:propensity", bad))
        if mapping.shape == "lists":
            uneven = pl.col("propensity").list.len() != pl.col("items").list.len()
            rules.append(("bad_list:propensity", uneven))
    if mapping.shape in ("candidates", "ratings"):
        columns.append(read_grades(frame["clicked"]).alias("grade"))
        if mapping.shape == "candidates":
            rules.append(("missing_field:clicked", pl.col("clicked").is_null()))
        rules.append(("bad_number:clicked", pl.col("grade").is_null() & pl.col("clicked").is_not_null()))
    if mapping.impression is not None:
        columns.append(read_ids(frame["impression"]).alias("impression_id"))
        rules.append(("missing_field:id", absent("impression_id")))
    cells = frame.with_columns(columns)
    kept, rejects = refuse(cells, rules, at="at")
    impression_id = pl.col("impression_id") if mapping.impression is not None else moment
    known_at = pl.coalesce("known", pl.col("at") + config.source.known_after)
    used = [name for name in frame.columns if name not in ("source", "line", "raw") and FIELD not in name]
    if mapping.shape == "lists" and mapping.propensity is not None:
        kept = kept.with_columns(_paired(kept["items"], kept["propensity"])).drop("propensity")
    rows = kept.lazy().with_columns(impression_id.alias("impression_id"), known_at.alias("known"))
    return rows.drop(used).collect(), rejects


def _number_lists(cells: pl.Series, separator: str) -> pl.Series:
    """Lists of numbers; entries that are not numbers are null."""
    lists = read_lists(cells, separator).to_frame()
    return lists.select(pl.all().list.eval(pl.element().cast(pl.Float64, strict=False))).to_series()


def _paired(items: pl.Series, propensity: pl.Series) -> pl.Series:
    """`items` as lists of structs with their propensities, which are null where a row has none."""
    unknown = pl.lit(None, pl.Float64).repeat_by(pl.col("item_id").list.len())
    lists = pl.DataFrame({"item_id": items, "propensity": propensity}).with_row_index("row")
    pairs = lists.with_columns(pl.col("propensity").fill_null(unknown)).explode("item_id", "propensity")
    paired = pairs.group_by("row", maintain_order=True).agg(items=pl.struct("item_id", "propensity"))
    return paired["items"]


def _read(
    frame: pl.DataFrame, name: str, read: Callable[[pl.Series], pl.Series], dtype: pl.DataType
) -> pl.Series | pl.Expr:
    """A column's values, or nulls if the log has no such column."""
    return read(frame[name]) if name in frame.columns else pl.lit(None, dtype)
