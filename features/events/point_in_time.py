"""Point-in-time joins: a row sees only what was known strictly before its instant, and items in the version of then."""

from collections.abc import Sequence

import polars as pl

from features.schemas import Items

BORN_AT = pl.coalesce("published_at", "known_at")
"""When an item version (`schemas.Items`) was published or, if unknown, became known."""


def known_before(
    rows: pl.DataFrame, facts: pl.DataFrame, at: str, known_at: str, by: str | Sequence[str]
) -> pl.DataFrame:
    """Join to each row the latest row of `facts` with equal keys `by` and `known_at` strictly before the row's `at`.

    Keeps the order of `rows`. Among facts with equal `known_at` the last wins. Null where there is none.
    """
    return (
        rows.with_row_index("__row")
        .sort(at)
        .join_asof(
            facts.sort(known_at, maintain_order=True),
            left_on=at,
            right_on=known_at,
            by=by if isinstance(by, str) else list(by),
            strategy="backward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .sort("__row")
        .drop("__row")
    )


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
