"""The law in one place: a row sees what was known strictly before its instant, and nothing else."""

from collections.abc import Sequence

import polars as pl


def known_before(
    rows: pl.DataFrame, facts: pl.DataFrame, at: str, known_at: str, by: str | Sequence[str]
) -> pl.DataFrame:
    """`rows`, in their order, with the columns of the latest of `facts` whose `known_at` is before the row's `at`.

    Keys `by` are equal; of facts known at one instant the last in their order is taken. Null where there is none.
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
