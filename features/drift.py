"""Drift of columns between two tables: the population stability index.

PSI = Σ_b (c_b − r_b) · ln(c_b / r_b) over bins b, where r_b and c_b are the shares of reference and current rows in
the bin (Siddiqi 2006, Credit Risk Scorecards; Jeffreys' divergence of the binned values). By convention below 0.1 is
small and above 0.25 large. Without drift, its expectation is about bins · (1 / reference rows + 1 / current rows).
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from features.errors import TableError


def drift(
    reference: pl.DataFrame, current: pl.DataFrame, columns: Sequence[str], bins: int = 10
) -> pl.DataFrame:
    """`column, psi` for each of `columns` (numeric or Boolean), in their order.

    Bins end at the reference's quantiles; values below its minimum and missing values (null or NaN) have bins of their
    own. An empty bin counts as half a row of the smaller table, to keep the logarithm finite. The index is null if a
    table has no rows. Raises TableError for missing or non-numeric columns.
    """
    for name, table in (("reference", reference), ("current", current)):
        _check_columns(name, table, columns)
    empty = reference.is_empty() or current.is_empty()
    indices = [None if empty else _psi(reference[column], current[column], bins) for column in columns]
    return pl.DataFrame(
        {"column": list(columns), "psi": indices}, schema={"column": pl.String, "psi": pl.Float64}
    )


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


def _psi(reference: pl.Series, current: pl.Series, bins: int) -> float:
    before, now = (
        column.cast(pl.Float64).fill_nan(None).drop_nulls().sort().to_numpy()
        for column in (reference, current)
    )
    # Equal quantiles are merged, so that a frequent value has one bin.
    ends = np.unique(before[(before.size - 1) * np.arange(1, bins) // bins]) if before.size else before
    least = 0.5 / min(len(reference), len(current))
    shares = []
    for known, rows in ((before, len(reference)), (now, len(current))):
        # Rows up to the end of each bin: below the minimum, up to each quantile, above the last, missing.
        below, quantiles = known.searchsorted(before[:1]), known.searchsorted(ends, "right")
        counts = np.diff([0, *below, *quantiles, known.size, rows])
        shares.append(np.maximum(counts / rows, least))
    r, c = shares
    return float(((c - r) * np.log(c / r)).sum())
