"""Drift of columns between two tables: the population stability index.

PSI = Σ_b (c_b − r_b) · ln(c_b / r_b) over bins b, where r_b and c_b are the shares of reference and current rows in
the bin (Siddiqi 2006, Credit Risk Scorecards; Jeffreys' divergence of the binned values). By convention below 0.1 is
small and above 0.25 large. Without drift, its expectation is about bins · (1 / reference rows + 1 / current rows).
"""

import math
from collections.abc import Sequence

import polars as pl

from features.errors import TableError

_SCHEMA = {"column": pl.String, "psi": pl.Float64}


def drift(
    reference: pl.DataFrame, current: pl.DataFrame, columns: Sequence[str], bins: int = 10
) -> pl.DataFrame:
    """`column, psi` for each of `columns` (numeric or Boolean), in their order.

    Bins end at the reference's quantiles; values below its minimum and missing values (null or NaN) have bins of their
    own. An empty bin counts as half a row of the smaller table, to keep the logarithm finite. The index is null if a
    table has no rows. Raises TableError for missing or non-numeric columns, ValueError for fewer than two bins.
    """
    if bins < 2:
        raise ValueError(f"drift needs at least 2 bins, not {bins}")
    for name, table in (("reference", reference), ("current", current)):
        _check_columns(name, table, columns)
    rows = min(reference.height, current.height)
    if not rows:
        return pl.DataFrame({"column": list(columns), "psi": [None] * len(columns)}, schema=_SCHEMA)
    indices = []
    for column in columns:
        before, now = _values(reference[column]), _values(current[column])
        edges = _edges(before, bins)
        indices.append(_index(_counts(before, edges), _counts(now, edges), 0.5 / rows))
    return pl.DataFrame({"column": list(columns), "psi": indices}, schema=_SCHEMA)


def _check_columns(name: str, table: pl.DataFrame, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise TableError(
            f"the {name} table has no columns {', '.join(missing)}: compare slices made with the same project file"
        )
    non_numeric = [c for c in columns if not (table.schema[c].is_numeric() or table.schema[c] == pl.Boolean)]
    if non_numeric:
        raise TableError(
            f"columns of the {name} table are not numeric: {', '.join(non_numeric)}: leave them out of drift"
        )


def _values(column: pl.Series) -> pl.Series:
    return column.cast(pl.Float64).fill_nan(None)


def _edges(values: pl.Series, bins: int) -> tuple[float | None, list[float]]:
    """The minimum, and the upper ends of all bins but the last; none if every value is missing.

    Equal quantiles are merged, so that a frequent value has one bin.
    """
    known = values.drop_nulls().sort()
    if known.is_empty():
        return None, []
    ends = {float(known[(len(known) - 1) * n // bins]) for n in range(1, bins)}
    return float(known[0]), sorted(ends)


def _counts(values: pl.Series, edges: tuple[float | None, list[float]]) -> pl.Series:
    """Rows per bin: below the minimum, up to each end, above the last end, missing."""
    least, ends = edges
    size = len(ends) + 3
    if least is None:
        bin = values.is_null().cast(pl.Int64) * (size - 1)
    else:
        up_to = pl.Series(ends, dtype=pl.Float64).search_sorted(values.fill_null(least)).cast(pl.Int64) + 1
        frame = pl.DataFrame({"value": values, "bin": up_to})
        bin = frame.select(
            pl.when(pl.col("value").is_null())
            .then(size - 1)
            .otherwise(pl.when(pl.col("value") < least).then(0).otherwise("bin"))
        ).to_series()
    counts = dict(bin.value_counts().iter_rows())
    return pl.Series([counts.get(n, 0) for n in range(size)], dtype=pl.Float64)


def _index(before: pl.Series, now: pl.Series, least: float) -> float:
    shares = zip(before / before.sum(), now / now.sum(), strict=True)
    clipped = ((max(r, least), max(c, least)) for r, c in shares)
    return float(math.fsum((c - r) * math.log(c / r) for r, c in clipped))
