"""Rows of a counter by key and time, cut into runs: stretches in which nothing is forgotten. For `decay.py`.

A row's numbers are weighed as of one instant, so that they can be added up in any order and in any parts.
"""

import math
from collections.abc import Collection
from datetime import datetime, timedelta

import polars as pl

from features.counter import Counter, column

_LN2 = math.log(2)
_INSTANT = pl.Datetime("us", "UTC")
_HARDLY = 2.0  # half-lives
_SUMS = ("_value", "_taken")
"""Ends of the names of quantities that sum values, of whatever size; the others count, or nearly."""


def weighed(told: pl.DataFrame, counter: Counter, since: datetime, names: Collection[str]) -> pl.DataFrame:
    """Keys, quantities weighed for each half-life of `names`, the instants that they set, `at` and `row`, if any."""
    elapsed = seconds_since(since)
    growth = {name: decay(-elapsed, seconds) for name, seconds in counter.half_lives}
    tells = pl.col(counter.quantities[0]).is_not_null()
    happened = {"last_at": tells, "clicked_at": pl.col("clicks") > 0}
    return told.select(
        *counter.keys,
        *(
            (pl.col(quantity).fill_null(0.0) * growth[half_life]).alias(column(quantity, half_life))
            for quantity in counter.quantities
            for half_life in growth
            if column(quantity, half_life) in names
        ),
        *(pl.when(happened[name]).then("at").alias(name) for name in counter.instants),
        "at",
        *(["row"] if "row" in told.columns else []),
    )


def stack(
    totals: pl.DataFrame, rows: pl.DataFrame, counter: Counter, since: datetime, names: Collection[str]
) -> pl.DataFrame:
    """Totals and rows of `weighed`, by key and time, with `run`: a number for each run, ascending.

    Totals are the first row of their key. A row that stands for several has `met_at`, the first of their instants.
    """
    keys = list(counter.keys)
    if not rows["at"].is_sorted():
        rows = rows.sort("at", maintain_order=True)
    these = rows.select(keys).unique().cast({name: totals.schema[name] for name in keys})
    known = totals.join(these, on=keys, how="semi").select(
        *(pl.col(name).cast(rows.schema[name]) for name in keys),
        *names,
        *counter.instants,
        at=pl.lit(since - timedelta(microseconds=1), _INSTANT),
    )
    together = pl.concat([known, rows], how="diagonal")
    # Both are in order of time: a stable sort by key alone keeps it.
    together = together.with_columns(key=_code(together, counter.keys)).sort("key", maintain_order=True)
    begins = pl.col("key") != pl.col("key").shift(1)
    if counter.forget is not None:
        met = pl.col("met_at" if "met_at" in rows.columns else "last_at")
        same = latest("key", of="last_at").shift(1) == pl.col("key")
        silence = met - pl.col("last_at").forward_fill().shift(1)
        begins |= (same & (silence > counter.forget)).fill_null(False)
    return together.with_columns(run=begins.fill_null(True).cum_sum()).drop("key")


def running(rows: pl.DataFrame, names: Collection[str], apart: Collection[str]) -> pl.DataFrame:
    """Running sums within each run of `stack`; those `apart` are summed run by run.

    The others are summed through, less what stood at the run's start: short runs cost no more than long ones, but
    what a run holds is then as exact as the greatest sum.
    """
    begins = pl.col("run") != pl.col("run").shift(1, fill_value=0)
    through = {name: pl.col(name).cum_sum() for name in names if name not in apart}
    rows = rows.with_columns(
        (total - pl.when(begins).then(total - pl.col(name)).forward_fill()).alias(name)
        for name, total in through.items()
    )
    if not apart:
        return rows
    summed = rows.group_by("run", maintain_order=True).agg(pl.col(apart).cum_sum())
    return pl.concat([rows.drop(apart), summed.select(pl.col(apart).explode())], how="horizontal")


def uneven(rows: pl.DataFrame, parts: Collection[tuple[str, str, float | None]]) -> list[str]:
    """Names of what must be summed run by run.

    What hardly fades within the rows' time has weights of one magnitude and loses nothing by being summed through.
    What fades by more, or sums values of whatever size, spans too many magnitudes for that.
    """
    span = rows.select((pl.col("at").max() - pl.col("at").min()).dt.total_seconds()).item() or 0
    return [
        name
        for name, quantity, seconds in parts
        if quantity.endswith(_SUMS) or (seconds is not None and span > _HARDLY * seconds)
    ]


def lasting(rows: pl.DataFrame, counter: Counter) -> pl.DataFrame:
    """The counter's instants at each row of `stack`: the latest until then in its run, or null."""
    # Found flat, and so must not be carried from one run into the next.
    return rows.with_columns(
        pl.when(latest("run", of=name) == pl.col("run")).then(latest(name, of=name)).alias(name)
        for name in counter.instants
    )


def latest(name: str, of: str) -> pl.Expr:
    """Value of a column at the last row, up to here, at which column `of` is not null."""
    return pl.when(pl.col(of).is_not_null()).then(pl.col(name)).forward_fill()


def seconds_since(since: datetime) -> pl.Expr:
    """Seconds from an instant to column `at`."""
    return (pl.col("at") - pl.lit(since)).dt.total_microseconds() / 1e6


def decay(elapsed: pl.Expr, seconds: float | None) -> pl.Expr:
    """What is left of 1 after a time, both in seconds; all of it where nothing fades."""
    return pl.lit(1.0) if seconds is None else (-elapsed / seconds * _LN2).exp()


def _code(rows: pl.DataFrame, keys: tuple[str, ...]) -> pl.Expr:
    """One integer a key: sorting and grouping integers takes a fraction of what strings take."""
    codes = rows.select(_whole(pl.col(name), rows.schema[name]) for name in keys)
    code = codes.to_series(0)
    for name in keys[1:]:
        # As digits of a number; where the digits would not fit into 64 bits, those so far are numbered anew.
        if _size(code) * _size(codes[name]) >= 2**63:
            code = code.rank("dense").cast(pl.UInt64)
        code = code * _size(codes[name]) + codes[name]
    return pl.lit(code)


def _whole(values: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if dtype == pl.String:
        values = values.cast(pl.Categorical(pl.Categories.random()))
    return (values if dtype.is_integer() else values.to_physical()).cast(pl.UInt64)


def _size(codes: pl.Series) -> int:
    greatest = codes.max()
    return greatest + 1 if isinstance(greatest, int) else 1
