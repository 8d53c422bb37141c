"""Where quality is looked at apart: boolean expressions over the rows of `evaluating.score_slice`, by name.

An expression that is constant in an impression (new users, length, hour) chooses lists; one that differs between
candidates (new items, a value of an attribute) restricts each list to those, ranked among themselves.
"""

import polars as pl

from features.config.project import Project
from models.ranking import require

NEW = {"new_users": pl.col("new_user"), "new_items": pl.col("new_item")}
"""Users first met, and items first shown, in the evaluated stretch."""

_LENGTHS = (1, 6, 11, 21, 51)
"""Fewest rows of a list in each band of lengths."""
_NEEDED = ("impression_id", "as_of", "attributes", "new_user", "new_item")


def segments(scored: pl.DataFrame, project: Project) -> dict[str, pl.Expr]:
    """New users and items, and of `scored` the largest values of each attribute, bands of length and of hours (UTC).

    `scored`: `impression_id, as_of, new_user, new_item` and `attributes`, each item's as known when it was shown.
    A value that `promotion.guard` names is a segment however small it is. Bands that hold every list are left out:
    they would repeat the whole. Raises TableError where a column is missing.
    """
    require(scored, _NEEDED, "segments")
    return {**NEW, **_values(scored, project), **_lengths(scored), **_hours(scored, project.evaluation.hours)}


def _values(scored: pl.DataFrame, project: Project) -> dict[str, pl.Expr]:
    """Of each declared attribute, the values that the most candidates have, and the guarded ones."""
    facts = attribute_values(scored).group_by("name", "value").agg(pl.col("row").n_unique().alias("rows"))
    guarded = pl.format("{}: {}", "name", "value").is_in([*project.promotion.guard])
    found = (
        facts.sort("rows", "value", descending=[True, False])
        .with_columns(place=pl.int_range(pl.len()).over("name"))
        .filter((pl.col("place") < project.evaluation.top_values) | guarded)
    )
    return {
        f"{name}: {value}": _has(name, value)
        for name in project.items.categorical
        for value in found.filter(pl.col("name") == name)["value"]
    }


def attribute_values(scored: pl.DataFrame) -> pl.DataFrame:
    """`row, name, value`: the distinct values of each row's `attributes`; rows that have none are absent."""
    return (
        scored.select("attributes")
        .with_row_index("row")
        .explode("attributes", empty_as_null=False, keep_nulls=False)
        .select("row", pl.col("attributes").struct.unnest())
        .unique(maintain_order=True)
    )


def _has(name: str, value: str) -> pl.Expr:
    fact = pl.element().struct
    return (
        pl.col("attributes")
        .list.eval((fact.field("name") == name) & (fact.field("value") == value))
        .list.any()
    )


def _lengths(scored: pl.DataFrame) -> dict[str, pl.Expr]:
    size = pl.len().over("impression_id")
    last = (*(start - 1 for start in _LENGTHS[1:]), None)
    bands = {
        f"list of {start}–{end}" if end else f"list of {start} or more": size.is_between(start, end or 2**31)
        for start, end in zip(_LENGTHS, last, strict=True)
    }
    return _told_apart(scored, bands)


def _hours(scored: pl.DataFrame, width: int) -> dict[str, pl.Expr]:
    hour = pl.col("as_of").dt.hour()
    bands = {
        f"{start:02}–{min(start + width, 24):02} h": (hour >= start) & (hour < start + width)
        for start in range(0, 24, width)
    }
    return _told_apart(scored, bands)


def _told_apart(scored: pl.DataFrame, bands: dict[str, pl.Expr]) -> dict[str, pl.Expr]:
    """The bands that hold some rows; none where one holds all."""
    found = scored.select(chosen.any().alias(name) for name, chosen in bands.items())
    held = [name for name in found.columns if found[name].item()]
    return {name: bands[name] for name in held} if len(held) > 1 else {}
