"""The decayed counter: advance and read. The only arithmetic on time.

A counter of half-life h holds, at instant t, the sum over past facts of weight · 2^(−(t − at)/h): one number,
exact under `advance`, with no window to rescan. Half-life `none` never forgets. Inside one slice facts are
summed as weight · 2^((at − since)/h), rebased at the slice's start so that the power stays finite.
"""

import math
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from features.point_in_time import known_before

_LN2 = math.log(2)


@dataclass(frozen=True)
class Counter:
    """What is counted per key: `quantities`, each under every half-life.

    `half_lives` maps a half-life's name to its seconds, or None for a counter that never forgets.
    """

    keys: tuple[str, ...]
    quantities: tuple[str, ...]
    half_lives: tuple[tuple[str, float | None], ...]

    @property
    def columns(self) -> list[str]:
        """Names of the numbers kept: `clicks_1d`, `clicks_all`…"""
        return [column(q, name) for q in self.quantities for name, _ in self.half_lives]

    def empty(self, keys: pl.DataFrame) -> pl.DataFrame:
        """Totals of nothing, with the key types of `keys`."""
        return (
            keys.select(self.keys)
            .clear()
            .with_columns(
                *(pl.lit(None, pl.Float64).alias(name) for name in self.columns),
                last_at=pl.lit(None, pl.Datetime("us", "UTC")),
            )
        )


def column(quantity: str, half_life: str) -> str:
    """Name of a counter: the quantity and its half-life; `none` is written `all`."""
    return f"{quantity}_{'all' if half_life == 'none' else half_life}"


def advance(
    totals: pl.DataFrame, facts: pl.DataFrame, counter: Counter, since: datetime, until: datetime
) -> pl.DataFrame:
    """Totals as of `until`, from totals as of `since` and the facts of [since, until).

    `totals`: keys, `counter.columns`, `last_at`. `facts`: keys, `at`, one Float64 column a quantity.
    Returns one row a key, sorted by key.
    """
    elapsed = (until - since).total_seconds()
    carried = totals.with_columns(
        pl.col(name) * _decay(pl.lit(elapsed), seconds) for name, seconds in _columns(counter)
    )
    left = (pl.lit(until) - pl.col("at")).dt.total_microseconds() / 1e6
    fresh = facts.select(
        *counter.keys,
        *_weighted(counter, -left),
        pl.col("at").alias("last_at"),
    )
    return (
        pl.concat([carried.select(fresh.columns), fresh])
        .sort(*counter.keys, "last_at")
        .group_by(counter.keys, maintain_order=True)
        .agg(pl.col(counter.columns).sum(), pl.col("last_at").max())
    )


def read(
    totals: pl.DataFrame, facts: pl.DataFrame, moments: pl.DataFrame, counter: Counter, since: datetime
) -> pl.DataFrame:
    """What each counter held just before each moment: only facts with `at` < `as_of` count.

    `moments`: keys and `as_of` (≥ `since`), repeats allowed. Returns one row per distinct (keys, as_of), with
    `counter.columns` (0 where nothing was counted) and `last_at` (null where nothing was).
    """
    elapsed = (pl.col("at") - pl.lit(since)).dt.total_microseconds() / 1e6
    running = (
        facts.sort(*counter.keys, "at")
        .select(*counter.keys, "at", *_weighted(counter, elapsed))
        .with_columns(pl.col(counter.columns).cum_sum().over(counter.keys))
        .unique([*counter.keys, "at"], keep="last", maintain_order=True)
        .rename({name: f"{name}:slice" for name in counter.columns})
    )
    since_start = (pl.col("as_of") - pl.lit(since)).dt.total_microseconds() / 1e6
    distinct = moments.select(*counter.keys, "as_of").unique().sort("as_of", *counter.keys)
    return (
        known_before(distinct, running, "as_of", "at", by=counter.keys)
        .join(totals, on=list(counter.keys), how="left", nulls_equal=False)
        .select(
            *counter.keys,
            "as_of",
            *(
                (
                    (pl.col(name).fill_null(0.0) + pl.col(f"{name}:slice").fill_null(0.0))
                    * _decay(since_start, seconds)
                ).alias(name)
                for name, seconds in _columns(counter)
            ),
            last_at=pl.max_horizontal("last_at", "at"),
        )
    )


def _columns(counter: Counter) -> list[tuple[str, float | None]]:
    return [(column(q, name), seconds) for q in counter.quantities for name, seconds in counter.half_lives]


def _decay(elapsed: pl.Expr, seconds: float | None) -> pl.Expr:
    return pl.lit(1.0) if seconds is None else (-elapsed / seconds * _LN2).exp()


def _weighted(counter: Counter, elapsed: pl.Expr) -> list[pl.Expr]:
    growth = {name: _decay(-elapsed, seconds) for name, seconds in counter.half_lives}
    return [(pl.col(q) * growth[name]).alias(column(q, name)) for q in counter.quantities for name in growth]
