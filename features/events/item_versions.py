"""Item versions, and which one is visible at an instant."""

import polars as pl

from features.events.point_in_time import known_before
from features.schemas import Items


def versions(known: pl.DataFrame, fresh: pl.DataFrame) -> pl.DataFrame:
    """Every item version that may be visible in a period, sorted by (item_id, known_at).

    `known`: latest versions before the period; `fresh`: versions that became known in it (both `schemas.Items`).
    """
    columns = list(Items.column_names())
    return pl.concat([known.select(columns), fresh.select(columns)]).sort("item_id", "known_at")


def latest(items: pl.DataFrame) -> pl.DataFrame:
    """The latest version of each item, from the output of `versions`."""
    return items.unique("item_id", keep="last", maintain_order=True).sort("item_id")


def see(rows: pl.DataFrame, items: pl.DataFrame, at: str) -> pl.DataFrame:
    """Add `version`: row number in `items` of the item version known strictly before column `at`."""
    numbered = items.select("item_id", "known_at").with_row_index("version")
    if numbered["item_id"].is_duplicated().any():
        return known_before(rows, numbered, at, "known_at", by="item_id").drop("known_at", strict=False)
    # With one version per item, as in most slices, a plain join suffices. `rows` may have their own `known_at`.
    renamed = numbered.rename({"known_at": "version_known_at"})
    joined = rows.join(renamed, on="item_id", how="left", maintain_order="left")
    return joined.with_columns(pl.when(pl.col("version_known_at") < pl.col(at)).then("version")).drop(
        "version_known_at", "known_at", strict=False
    )
