"""A seeded log of any size for `feature_columns.py`, written day by day as Parquet files.

A user sees about one impression of 20 items a day, in visits of three. There is one item for every three daily
impressions, and 3 % more each day; newer items are shown more often; 5 % of the exposures are clicked.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from features.schemas import Impressions, Interactions, Items

START = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
LISTED = 20
LISTS_A_VISIT = 3
CATEGORIES = 30
TAGS = 300
PRODUCT = ("items", "impressions", "interactions")
"""Tables that the product reads."""
PEERS = ("candidates", "values")
"""The same with one row per candidate or attribute value, for SQL and pandas."""
_INSTANT = pl.Datetime("us", "UTC")


def write_world(folder: Path, rows: int, days: int, *, peers: bool = True) -> None:
    """Write `rows` candidates over `days` days as files `{table}-{day}.parquet`."""
    lists = rows // days // LISTED
    users, first = max(lists, 10), max(lists // 3, 200)
    known = [int(first * (1 + 0.03 * day)) for day in range(days)]
    for day in range(days):
        draw = np.random.default_rng([7, day])
        # An impression shows items known since the morning.
        items = _items(draw, range(known[day - 1] if day else 0, known[day]), day)
        impressions, clicks = _events(draw, day, lists, users, known[day])
        tables = {"items": items, "impressions": impressions, "interactions": clicks}
        if peers:
            tables["candidates"] = impressions.explode("candidates", empty_as_null=False).unnest("candidates")
            values = items.explode("attributes", empty_as_null=False).unnest("attributes")
            tables["values"] = values.rename({"name": "attribute"})
        for name, table in tables.items():
            table.write_parquet(folder / f"{name}-{day:03d}.parquet")


def _items(draw: np.random.Generator, fresh: range, day: int) -> pl.DataFrame:
    """Return the day's new items with one category, one or two tags and a length."""
    count = len(fresh)
    drawn = {
        "category": draw.integers(0, CATEGORIES, count),
        "first": draw.integers(0, TAGS, count),
        "second": draw.integers(0, TAGS, count),
        "early": draw.integers(1, 86_400, count),
        "length": draw.lognormal(6, 1, count),
    }
    rows = pl.DataFrame(
        {"number": pl.Series(fresh, dtype=pl.Int64)} | {k: pl.Series(v) for k, v in drawn.items()}
    )
    tags = pl.concat_list(_attribute("tags", "t", "first"), _attribute("tags", "t", "second")).list.unique()
    return rows.select(
        item_id=pl.format("i{}", "number"),
        known_at=pl.lit(START + day * DAY).cast(_INSTANT) - pl.duration(seconds="early"),
        title=pl.format("item {}", "number"),
        body=pl.lit(None, pl.String),
        published_at=pl.lit(None, _INSTANT),
        attributes=pl.concat_list(pl.concat_list(_attribute("category", "c", "category")), tags),
        numbers=pl.concat_list(pl.struct(name=pl.lit("length"), value="length")),
    ).select(Items.column_names())


def _attribute(name: str, prefix: str, number: str) -> pl.Expr:
    return pl.struct(name=pl.lit(name), value=pl.format(prefix + "{}", number))


def _events(
    draw: np.random.Generator, day: int, count: int, users: int, items: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the day's impressions, and clicks on them within 20 minutes."""
    user, second = _visits(draw, count, users)
    positions = np.arange(LISTED)
    age = np.sort((items * draw.random((count, LISTED)) ** 3).astype(np.int64), axis=1)
    distinct = np.minimum(np.maximum.accumulate(age - positions, axis=1), items - LISTED) + positions
    item = draw.permuted(items - 1 - distinct, axis=1)
    # Click rates fall with the position and depend on the user and the item.
    clicked = draw.random((count, LISTED)) < 0.09 * 0.93**positions * (1 + np.sin(item + user[:, None]))
    after = np.minimum(draw.exponential(90, (count, LISTED)) + 5, 1200).astype(np.int64)
    midnight = int((START + day * DAY).timestamp())
    columns = {
        "number": np.arange(count).repeat(LISTED),
        "user": user.repeat(LISTED),
        "item": item.ravel(),
        "position": np.tile(positions + 1, count),
        "shown_at": (midnight + second).repeat(LISTED),
        "happened_at": (midnight + second[:, None] + after).ravel(),
        "clicked": clicked.ravel(),
    }
    every = pl.DataFrame({name: pl.Series(values) for name, values in columns.items()}).select(
        pl.format("d{}-{}", pl.lit(day), "number").alias("impression_id"),
        pl.format("u{}", "user").alias("user_id"),
        pl.format("i{}", "item").alias("item_id"),
        pl.col("position").cast(pl.Int32),
        (pl.col("shown_at", "happened_at") * 1_000_000).cast(_INSTANT),
        "clicked",
    )
    lists = every.group_by("impression_id", maintain_order=True).agg(
        pl.col("user_id", "shown_at").first(), candidates=pl.struct("item_id", "position")
    )
    empty = Impressions.create_empty().schema
    lists = lists.with_columns(session_id=pl.lit(None, pl.String), context=pl.lit([], empty["context"]))
    clicks = every.filter("clicked").sort("happened_at").with_row_index("number")
    clicks = clicks.with_columns(
        interaction_id=pl.format("k{}-{}", pl.lit(day), "number"),
        kind=pl.lit("click"),
        value=pl.lit(None, pl.Float64),
        known_at="happened_at",
    )
    return lists.select(Impressions.column_names()), clicks.select(Interactions.column_names())


def _visits(draw: np.random.Generator, count: int, users: int) -> tuple[np.ndarray, np.ndarray]:
    """Return user and second of the day of each impression, in order of time; all end before midnight."""
    visits = -(-count // LISTS_A_VISIT)
    user = draw.integers(0, users, visits).repeat(LISTS_A_VISIT)[:count]
    begun = draw.integers(0, 82_000, visits).repeat(LISTS_A_VISIT)[:count]
    second = begun + np.arange(count) % LISTS_A_VISIT * draw.integers(30, 400, count)
    order = np.argsort(second, kind="stable")
    return user[order], second[order]
