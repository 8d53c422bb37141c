"""How far columns have moved between two tables: the population stability index.

PSI = Σ_b (c_b − r_b) · ln(c_b / r_b) over bins b, with r_b and c_b the shares of the reference's and the current
rows in it (Siddiqi 2006, Credit Risk Scorecards; it is Jeffreys' divergence of the binned values). By custom
below 0.1 is little, above 0.25 much. Where nothing has moved, chance alone gives about
bins · (1 / rows of the reference + 1 / current rows).
"""

import math
from collections.abc import Sequence

import polars as pl

from features.errors import TableError

_SCHEMA = {"column": pl.String, "psi": pl.Float64}


def drift(
    reference: pl.DataFrame, current: pl.DataFrame, columns: Sequence[str], bins: int = 10
) -> pl.DataFrame:
    """`column, psi` of each of `columns`, numbers or truths, in the order given.

    Bins end at the reference's quantiles; what is below its least value is a bin of its own, and so is what is
    missing (null or NaN). An empty bin counts as half a row of the smaller table, so that a logarithm exists.
    The index is null where a table has no rows. Raises TableError for columns that are missing or not numeric,
    ValueError for fewer than two bins.
    """
    if bins < 2:
        raise ValueError(f"{bins} bins tell no shift: use at least 2")
    for name, table in (("reference", reference), ("current", current)):
        _refuse(name, table, columns)
    fewest = min(reference.height, current.height)
    if not fewest:
        return pl.DataFrame({"column": list(columns), "psi": [None] * len(columns)}, schema=_SCHEMA)
    found = []
    for column in columns:
        before, now = _values(reference[column]), _values(current[column])
        edges = _edges(before, bins)
        found.append(_index(_counts(before, edges), _counts(now, edges), 0.5 / fewest))
    return pl.DataFrame({"column": list(columns), "psi": found}, schema=_SCHEMA)


def _refuse(name: str, table: pl.DataFrame, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise TableError(
            f"drift needs the columns {', '.join(missing)}, not in the {name} table: compare two slices that "
            "were made with one project file"
        )
    other = [c for c in columns if not (table.schema[c].is_numeric() or table.schema[c] == pl.Boolean)]
    if other:
        raise TableError(
            f"columns of the {name} table are not numbers: {', '.join(other)}: leave them out of drift"
        )


def _values(column: pl.Series) -> pl.Series:
    return column.cast(pl.Float64).fill_nan(None)


def _edges(values: pl.Series, bins: int) -> tuple[float | None, list[float]]:
    """The least value, and the upper ends of all bins but the last; none where every value is missing.

    Equal quantiles are one end: a value that many rows share fills its bins together.
    """
    known = values.drop_nulls().sort()
    if known.is_empty():
        return None, []
    ends = {float(known[(len(known) - 1) * place // bins]) for place in range(1, bins)}
    return float(known[0]), sorted(ends)


def _counts(values: pl.Series, edges: tuple[float | None, list[float]]) -> pl.Series:
    """Rows in each bin: below the least value, up to each end, above the last, and missing."""
    least, ends = edges
    size = len(ends) + 3
    if least is None:
        place = values.is_null().cast(pl.Int64) * (size - 1)
    else:
        up_to = pl.Series(ends, dtype=pl.Float64).search_sorted(values.fill_null(least)).cast(pl.Int64) + 1
        frame = pl.DataFrame({"value": values, "place": up_to})
        place = frame.select(
            pl.when(pl.col("value").is_null())
            .then(size - 1)
            .otherwise(pl.when(pl.col("value") < least).then(0).otherwise("place"))
        ).to_series()
    told = dict(place.value_counts().iter_rows())
    return pl.Series([told.get(bin, 0) for bin in range(size)], dtype=pl.Float64)


def _index(before: pl.Series, now: pl.Series, least: float) -> float:
    shares = zip(before / before.sum(), now / now.sum(), strict=True)
    raised = ((max(r, least), max(c, least)) for r, c in shares)
    return float(math.fsum((c - r) * math.log(c / r) for r, c in raised))
