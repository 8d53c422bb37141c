"""Features relative to the other candidates of the same impression."""

from collections.abc import Callable, Mapping, Sequence

import polars as pl

FORMS: Mapping[str, str] = {
    "z": "how many standard deviations above the list's mean",
    "rank": "its place in the list, 1 for the greatest",
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
    numbered = frame.with_columns(__list=_number(frame[by]))
    found = []
    for form, names in columns.items():
        facts, value = _FORMS[form]
        told = numbered.group_by("__list", maintain_order=True).agg(
            fact(pl.col(name)).alias(f"{name}:{what}") for name in names for what, fact in facts.items()
        )
        # Gathered by number: a join would hash what is already a position.
        beside = told.drop("__list")[numbered["__list"]]
        wide = pl.concat([numbered.select("__list", *names), beside], how="horizontal")
        found.append(wide.select(value(name).cast(pl.Float32).alias(f"{name}_{form}") for name in names))
    return pl.concat([frame, *found], how="horizontal")


def _number(groups: pl.Series) -> pl.Series:
    """A number for each row's group, from 0 in the order of first rows."""
    runs = groups.rle_id()
    if groups.n_unique() == (int(runs[-1]) + 1 if len(runs) else 0):
        return runs
    first = groups.to_frame("group").with_row_index("row").group_by("group").agg(pl.col("row").min())
    places = first.sort("row").with_row_index("number").select("group", "number")
    return groups.to_frame("group").join(places, on="group", how="left", maintain_order="left")["number"]


def _z(name: str) -> pl.Expr:
    value, spread = pl.col(name), pl.col(f"{name}:spread")
    above = (value - pl.col(f"{name}:mean")) / spread
    return pl.when(spread > 1e-5 * pl.col(f"{name}:size")).then(above).otherwise(value * 0.0)


def _rank(name: str) -> pl.Expr:
    # In Float32: the order of sums, which differs between a batch and a live request, must not part equals.
    return pl.col(name).cast(pl.Float32).rank("min", descending=True).over("__list")


def _share(name: str) -> pl.Expr:
    value, total = pl.col(name), pl.col(f"{name}:sum")
    return pl.when(total > 0).then(value / total).otherwise(value * 0.0)


def _best(name: str) -> pl.Expr:
    return pl.col(name) - pl.col(f"{name}:greatest")


_FORMS: Mapping[str, tuple[Mapping[str, Callable[[pl.Expr], pl.Expr]], Callable[[str], pl.Expr]]] = {
    "z": (
        {
            "mean": lambda value: value.mean(),
            "spread": lambda value: value.std(ddof=0),
            "size": lambda value: pl.max_horizontal(value.max(), -value.min()),
        },
        _z,
    ),
    "rank": ({}, _rank),
    "share": ({"sum": lambda value: value.sum()}, _share),
    "best": ({"greatest": lambda value: value.max()}, _best),
}
"""What is asked of each list, and what is made of it."""
