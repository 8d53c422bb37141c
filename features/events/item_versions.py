"""Item versions: what an item said when, and which of it a moment may see."""

import polars as pl

from features.events.point_in_time import known_before
from features.schemas import Items


def versions(known: pl.DataFrame, fresh: pl.DataFrame) -> pl.DataFrame:
    """Every item version that may be visible in a stretch of time, sorted by (item_id, known_at).

    `known`: the latest versions before it, `fresh`: those that became known within it (`schemas.Items`).
    """
    columns = list(Items.column_names())
    return pl.concat([known.select(columns), fresh.select(columns)]).sort("item_id", "known_at")


def latest(found: pl.DataFrame) -> pl.DataFrame:
    """The last version of each item, of `versions`."""
    return found.unique("item_id", keep="last", maintain_order=True).sort("item_id")


def see(rows: pl.DataFrame, found: pl.DataFrame, at: str) -> pl.DataFrame:
    """Adds `version`, the row number in `found` of the item version known strictly before column `at`."""
    numbered = found.select("item_id", "known_at").with_row_index("version")
    if numbered["item_id"].is_duplicated().any():
        return known_before(rows, numbered, at, "known_at", by="item_id").drop("known_at", strict=False)
    # One version an item, as most slices have it: a plain join does.
    # Renamed: rows may have a `known_at` of their own, as moments do.
    told = numbered.rename({"known_at": "told_at"})
    seen = rows.join(told, on="item_id", how="left", maintain_order="left")
    return seen.with_columns(pl.when(pl.col("told_at") < pl.col(at)).then("version")).drop(
        "told_at", "known_at", strict=False
    )
