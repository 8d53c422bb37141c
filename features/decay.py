"""The decayed counter: advance and read. With `runs.py` the only arithmetic on time.

A counter of half-life h holds, at instant t, the sum over past facts of weight · 2^(−(t − at)/h): one number,
exact under `advance`, with no window to rescan. Half-life `none` never fades. Inside one slice facts are
summed as weight · 2^((at − since)/h), rebased at the slice's start so that the power stays finite. An entry
that nothing touched for `forget` seconds is forgotten whole, wherever the slices are cut: it is read as empty,
begins anew with the next fact, and `advance` drops it.

Such sums are linear: `added` makes them of each tick of a slice by itself, and `scan` puts them one after the other.
"""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

import polars as pl

from features.counter import Counter
from features.runs import decay, lasting, running, seconds_since, stack, uneven, weighed


def advance(
    totals: pl.DataFrame,
    facts: pl.DataFrame,
    counter: Counter,
    since: datetime,
    until: datetime,
) -> pl.DataFrame:
    """Totals as of `until`, from totals as of `since` and the facts of [since, until).

    `totals`: keys, `counter.columns`, `counter.instants`. `facts`: keys, `at`, one Float64 column a quantity.
    Returns one row a key: those that nothing touched as they were, then the others by key. Forgotten ones are left out.
    """
    rows = weighed(facts, counter, since, counter.columns)
    if counter.forget is not None and until - since > counter.forget:
        # Something may be forgotten and met again in between.
        moved = _last_runs(totals, rows, counter, since)
    else:
        moved = _together(totals, _by_key(rows, counter), counter)
    return _settled(totals, moved, counter, since, until)


class Scan(NamedTuple):
    """What stood at the start of each tick, and at the end of all: see `scan`."""

    starts: pl.DataFrame
    totals: pl.DataFrame


def added(
    facts: pl.DataFrame, counter: Counter, since: datetime, begins: datetime, until: datetime
) -> pl.DataFrame:
    """What the facts of a tick, [begins, until), add to each key's numbers, weighed as of `since` ≤ `begins`.

    Keys, `counter.columns`, `counter.instants` and `met_at`, when the key was first met, by key. Of a key that
    was forgotten within the tick, all of this is of the time after.
    """
    rows = weighed(facts, counter, since, counter.columns)
    if counter.forget is not None and until - begins > counter.forget:
        sums = _last_runs(counter.empty(facts), rows, counter, since)
    else:
        sums = _by_key(rows, counter)
    return sums.sort(counter.keys)


def scan(
    totals: pl.DataFrame, sums: pl.DataFrame, counter: Counter, since: datetime, until: datetime
) -> Scan:
    """Totals of each key at the start of the ticks that have it, and of every key at `until`.

    `totals` as of `since`; `sums`: frames of `added` one after the other, each with its tick's start as `at`. Starts
    are rows as of `at`: keys, `at`, `counter.columns`, `counter.instants`; none for keys of which nothing was known.
    """
    keys, names = list(counter.keys), counter.columns
    rows = stack(totals, sums, counter, since, names)
    held = lasting(running(rows, names, apart=names), counter)
    kept = [*names, *counter.instants]
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in keys)
    # A tick finds what stood after the one before it; what is forgotten by then, its readers see by the instants.
    starts = held.select(*keys, "at", pl.col(kept).shift(1)).filter(same.and_(held["met_at"].is_not_null()))
    elapsed = seconds_since(since)
    starts = starts.with_columns(pl.col(name) * decay(elapsed, seconds) for name, _, seconds in counter.parts)
    moved = held.unique(keys, keep="last", maintain_order=True).select(*keys, *kept)
    moved = moved.cast({name: totals.schema[name] for name in keys})
    return Scan(starts, _settled(totals, moved, counter, since, until))


def _by_key(rows: pl.DataFrame, counter: Counter) -> pl.DataFrame:
    return rows.group_by(counter.keys).agg(
        pl.col(counter.columns).sum(),
        pl.col(counter.instants).max(),
        met_at=pl.col("at").min(),
    )


def _last_runs(totals: pl.DataFrame, rows: pl.DataFrame, counter: Counter, since: datetime) -> pl.DataFrame:
    """Totals, as of `since`, of the keys that rows touch, with what they add: of each key's last run."""
    runs = stack(totals, rows, counter, since, counter.columns).group_by("run", maintain_order=True)
    sums = runs.agg(
        pl.col(counter.keys).first(),
        pl.col(counter.columns).sum(),
        pl.col(counter.instants).max(),
        met_at=pl.col("at").min(),
    )
    moved = sums.unique(counter.keys, keep="last", maintain_order=True).drop("run")
    return moved.cast({name: totals.schema[name] for name in counter.keys})


def _together(totals: pl.DataFrame, sums: pl.DataFrame, counter: Counter) -> pl.DataFrame:
    """Totals of the keys of `sums`, with these added: nothing may be forgotten in between."""
    keys = list(counter.keys)
    both = sums.cast({name: totals.schema[name] for name in keys}).join(
        totals, on=keys, how="left", suffix=":before"
    )
    kept = pl.lit(True)
    if counter.forget is not None:
        kept = pl.col("met_at") - pl.col("last_at:before") <= counter.forget
    return both.select(
        *keys,
        *(pl.col(name) + pl.when(kept).then(f"{name}:before").fill_null(0.0) for name in counter.columns),
        *(pl.coalesce(name, pl.when(kept).then(f"{name}:before")).alias(name) for name in counter.instants),
    )


def _settled(
    totals: pl.DataFrame, moved: pl.DataFrame, counter: Counter, since: datetime, until: datetime
) -> pl.DataFrame:
    """Totals as of `until`: of the keys that moved, and of those that nothing touched."""
    keys = list(counter.keys)
    still = totals.join(moved.select(keys), on=keys, how="anti", maintain_order="left")
    elapsed = pl.lit((until - since).total_seconds())
    faded = pl.concat([still, moved.select(totals.columns).sort(keys)]).with_columns(
        pl.col(name) * decay(elapsed, seconds) for name, _, seconds in counter.parts
    )
    return faded if counter.forget is None else faded.filter(until - pl.col("last_at") <= counter.forget)


def read(
    totals: pl.DataFrame,
    facts: pl.DataFrame,
    asked: pl.DataFrame,
    counter: Counter,
    since: datetime,
    wanted: Collection[str] | None = None,
) -> pl.DataFrame:
    """What each counter held just before each moment: only facts with `at` < `as_of` count.

    `asked`: keys and `as_of` (≥ `since`), repeats allowed. Returns, row for row, those of `counter.columns` and
    `counter.instants` that are `wanted` (all of them, if None): 0, or null, where nothing was.
    """
    keys = list(counter.keys)
    questions = asked.select(
        *(pl.col(name).cast(facts.schema[name]) for name in keys),
        at="as_of",
        row=pl.int_range(pl.len()),
    )
    told = pl.concat([facts.select(*keys, "at", *counter.quantities), questions], how="diagonal")
    return answer(totals, told, counter, since, wanted)


def answer(
    totals: pl.DataFrame,
    told: pl.DataFrame,
    counter: Counter,
    since: datetime,
    wanted: Collection[str] | None = None,
) -> pl.DataFrame:
    """As `read`, where facts and questions stand in one table.

    `told`: keys, `at`, the quantities (null in a row that only asks) and `row`, the answer's place from 0 (null in
    a row that only tells). A row may do both, as an item shown does: it does not see itself.
    """
    parts = [part for part in counter.parts if wanted is None or part[0] in wanted]
    instants = [name for name in counter.instants if wanted is None or name in wanted]
    names = [name for name, _, _ in parts]
    rows = stack(totals, weighed(told, counter, since, names), counter, since, names)
    rows = lasting(running(rows, names, uneven(rows, parts)), counter).with_row_index("place")
    # Of rows of one run and one instant, all see what stood before the first of them.
    first = (pl.col("run") != pl.col("run").shift(1)) | (pl.col("at") != pl.col("at").shift(1))
    before = pl.when(first.fill_null(True)).then(pl.col("place").cast(pl.Int64) - 1).forward_fill()
    asked = rows.select("row", "run", "at", before=before).filter(pl.col("row").is_not_null()).sort("row")
    seen = rows.select(*names, *counter.instants, seen="run")[asked["before"].clip(lower_bound=0)]
    held = (pl.col("seen") == pl.col("run")) & (pl.col("before") >= 0)
    if counter.forget is not None:
        held &= pl.col("at") - pl.col("last_at") <= counter.forget
    elapsed = seconds_since(since)
    return pl.concat([asked, seen], how="horizontal").select(
        *(
            pl.when(held).then(pl.col(name) * decay(elapsed, seconds)).otherwise(0.0).alias(name)
            for name, _, seconds in parts
        ),
        *(pl.when(held).then(pl.col(name)).alias(name) for name in instants),
    )
