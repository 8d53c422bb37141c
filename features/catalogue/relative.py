"""Features relative to the other candidates of the same impression."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

FORMS: Mapping[str, str] = {
    "z": "standard deviations above the impression's mean",
    "rank": "rank within the impression, 1 for the greatest",
    "share": "share of the impression's sum",
    "best": "difference from the impression's greatest",
}
"""Suffix of a relative form → its meaning."""


def relative(
    frame: pl.DataFrame, columns: Mapping[str, Sequence[str]], by: str = "impression_id"
) -> pl.DataFrame:
    """Add `{column}_{form}`, Float32, for each form and each of its columns, computed within each group of `by`.

    z is 0 for a single candidate and for equal values (equal to within 1e-5: finer differences are rounding).
    Shares are 0 where the sum is not positive. A missing value stays missing and is left out of mean, maximum and sum.
    """
    from features.catalogue.programs import OPERATIONS, compare_all

    group = frame[by].rank("dense").to_numpy()
    order = np.argsort(group, kind="stable")
    start = np.searchsorted(group[order], np.arange(1, group.max(initial=0) + 2))
    added = []
    for form, names in columns.items():
        for name in names:
            values = frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()[order]
            out = np.empty(values.size)
            compare_all(OPERATIONS.index(form), values, start, out)
            unsorted = np.empty(values.size, np.float32)
            unsorted[order] = out
            added.append(pl.Series(f"{name}_{form}", unsorted).fill_nan(None))
    return frame.with_columns(added)
