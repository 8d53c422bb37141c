"""The point-in-time join: a row sees only what was known strictly before its instant."""

from collections.abc import Sequence

import polars as pl


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
