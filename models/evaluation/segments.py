"""Segments of an evaluation: boolean expressions over the rows of `prequential.score_slice`, by name.

An expression that is constant within an impression (new users, history, length, hour) selects impressions; one that
varies (new items, age, an attribute value) reduces each impression to the selected candidates, ranked among themselves.
"""

from collections.abc import Collection, Sequence

import polars as pl

from features.config.sections import Evaluation
from features.config.segment_bands import AGES, HISTORIES, LENGTHS, Bands, hour_bands
from models.ranking import require

NEW = {"new_users": pl.col("new_user"), "new_items": pl.col("new_item")}
"""Users and items that are new in the evaluated slice."""
_COLUMNS = ("impression_id", "as_of", "attributes", "new_user", "new_item", "item_hours", "history_clicks")


def segments(
    scored: pl.DataFrame, attributes: Sequence[str], config: Evaluation, guard: Collection[str]
) -> dict[str, pl.Expr]:
    """Segments of `scored`: new users, new items, top attribute values, bands of age, history, length and hours (UTC).

    `scored`: `impression_id, as_of, new_user, new_item`, `history_clicks` of the user before the slice, and each item's
    `attributes` and `item_hours` (age) when it was shown.
    `attributes` are the declared names. A value in `guard` is always a segment. A band that contains every impression
    is left out. Raises TableError if a column is missing.
    """
    require(scored, _COLUMNS, "segments")
    return {
        **NEW,
        **_values(scored, attributes, config.top_values, guard),
        **_in_bands(scored, pl.col("item_hours"), AGES),
        **_in_bands(scored, pl.col("history_clicks"), HISTORIES),
        **_in_bands(scored, pl.len().over("impression_id"), LENGTHS),
        **_in_bands(scored, pl.col("as_of").dt.hour(), hour_bands(config.hours)),
    }


def _values(
    scored: pl.DataFrame, attributes: Sequence[str], top: int, guard: Collection[str]
) -> dict[str, pl.Expr]:
    """The most frequent values of each declared attribute among candidates, and the guarded values."""
    values = attribute_values(scored).group_by("name", "value").agg(pl.col("row").n_unique().alias("rows"))
    guarded = pl.format("{}: {}", "name", "value").is_in([*guard])
    selected = (
        values.sort("rows", "value", descending=[True, False])
        .with_columns(rank=pl.int_range(pl.len()).over("name"))
        .filter((pl.col("rank") < top) | guarded)
    )
    return {
        f"{name}: {value}": _has(name, value)
        for name in attributes
        for value in selected.filter(pl.col("name") == name)["value"]
    }


def attribute_values(scored: pl.DataFrame) -> pl.DataFrame:
    """`row, name, value`: the distinct values of each row's `attributes`; rows without any are absent."""
    return (
        scored.select("attributes")
        .with_row_index("row")
        .explode("attributes", empty_as_null=False, keep_nulls=False)
        .select("row", pl.col("attributes").struct.unnest())
        .unique(maintain_order=True)
    )


def _has(name: str, value: str) -> pl.Expr:
    pair = pl.element().struct
    return (
        pl.col("attributes")
        .list.eval((pair.field("name") == name) & (pair.field("value") == value))
        .list.any()
    )


def _in_bands(scored: pl.DataFrame, value: pl.Expr, bands: Bands) -> dict[str, pl.Expr]:
    """The bands of `value` with rows, or none if a single band contains them all."""
    every = {name: (value >= start) & (value < end) for name, (start, end) in bands.items()}
    any_row = scored.select(band.any().alias(name) for name, band in every.items())
    names = [name for name in any_row.columns if any_row[name].item()]
    return {name: every[name] for name in names} if len(names) > 1 else {}
