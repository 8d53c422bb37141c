"""Features relative to the other candidates of the same impression."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

FORMS: Mapping[str, str] = {
    "z": "how many standard deviations above the list's mean",
    "rank": "its rank in the list, 1 for the greatest",
    "share": "as a share of the list's sum",
    "best": "how far below the list's greatest",
}
"""Suffix of a relative form, and what it means."""


def relative(
    frame: pl.DataFrame, columns: Mapping[str, Sequence[str]], by: str = "impression_id"
) -> pl.DataFrame:
    """Adds `{column}_{form}`, Float32, for each form and each of its columns, within each group of `by`.

    A list of one, or of equal values, has z 0 (values are equal where they differ in the sixth figure or later:
    Float32 and the order of sums decide what stands there); a sum that is not above 0 makes shares of 0. A
    missing value stays missing and is no part of the others' mean, greatest or sum.
    """
    from features.catalogue.kernels import OPERATIONS, compare_all

    number = frame[by].rank("dense").to_numpy()
    order = np.argsort(number, kind="stable")
    start = np.searchsorted(number[order], np.arange(1, number.max(initial=0) + 2))
    found = []
    for form, names in columns.items():
        for name in names:
            values = frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()[order]
            out = np.empty(values.size)
            compare_all(OPERATIONS.index(form), values, start, out)
            back = np.empty(values.size, np.float32)
            back[order] = out
            found.append(pl.Series(f"{name}_{form}", back).fill_nan(None))
    return frame.with_columns(found)
