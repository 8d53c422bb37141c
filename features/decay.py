"""The decayed counter: advance and read. The only arithmetic on time.

A counter of half-life h holds, at instant t, the sum over past facts of weight · 2^(−(t − at)/h): one number,
exact under `advance`, with no window to rescan. Half-life `none` never fades. Inside one slice facts are
summed as weight · 2^((at − since)/h), rebased at the slice's start so that the power stays finite. An entry
that nothing touched for `forget` seconds is forgotten whole, wherever the slices are cut: it is read as empty,
begins anew with the next fact, and `advance` drops it.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

_LN2 = math.log(2)
_INSTANT = pl.Datetime("us", "UTC")
_HARDLY = 2.0  # half-lives
_INSTANTS = ("last_at", "clicked_at")
_SUMS = ("_value", "_taken")
"""Ends of the names of quantities that sum values, of whatever size; the others count, or nearly."""


@dataclass(frozen=True)
class Counter:
    """What is counted per key: `quantities`, each under every half-life.

    `half_lives` maps a half-life's name to its seconds, or None for a counter that never fades.
    """

    keys: tuple[str, ...]
    quantities: tuple[str, ...]
    half_lives: tuple[tuple[str, float | None], ...]
    forget: timedelta | None = None

    @property
    def columns(self) -> list[str]:
        """Names of the numbers kept: `clicks_1d`, `clicks_all`…"""
        return [column(q, name) for q in self.quantities for name, _ in self.half_lives]

    @property
    def instants(self) -> tuple[str, ...]:
        """Names of the instants kept: of the last fact of any kind, and of the last click."""
        return _INSTANTS if "clicks" in self.quantities else _INSTANTS[:1]

    def empty(self, keys: pl.DataFrame) -> pl.DataFrame:
        """Totals of nothing, with the key types of `keys`."""
        return (
            keys.select(self.keys)
            .clear()
            .with_columns(
                *(pl.lit(None, pl.Float64).alias(name) for name in self.columns),
                *(pl.lit(None, _INSTANT).alias(name) for name in self.instants),
            )
        )


def column(quantity: str, half_life: str) -> str:
    """Name of a counter: the quantity and its half-life; `none` is written `all`."""
    return f"{quantity}_{'all' if half_life == 'none' else half_life}"


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
    keys, names = list(counter.keys), counter.columns
    if counter.forget is not None and until - since > counter.forget:
        # Something may be forgotten and met again in between: the sums are those of each key's last run.
        added = _stack(totals, facts, counter, since, names).group_by("run", maintain_order=True)
        sums = added.agg(pl.col(keys).first(), pl.col(names).sum(), pl.col(counter.instants).max())
        moved = sums.unique(keys, keep="last", maintain_order=True).drop("run")
        moved = moved.cast({name: totals.schema[name] for name in keys})
    else:
        moved = _added(totals, facts, counter, since)
    still = totals.join(moved.select(keys), on=keys, how="anti", maintain_order="left")
    elapsed = pl.lit((until - since).total_seconds())
    faded = pl.concat([still, moved.select(totals.columns).sort(keys)]).with_columns(
        pl.col(name) * _decay(elapsed, seconds) for name, _, seconds in _columns(counter)
    )
    return faded if counter.forget is None else faded.filter(until - pl.col("last_at") <= counter.forget)


def _added(totals: pl.DataFrame, facts: pl.DataFrame, counter: Counter, since: datetime) -> pl.DataFrame:
    """Totals, as of `since`, of the keys that facts touch, with what the facts add to them."""
    keys, names = list(counter.keys), counter.columns
    added = (
        _weighted(facts, counter, since, names)
        .group_by(keys)
        .agg(
            pl.col(names).sum(),
            pl.col(counter.instants).max(),
            met_at=pl.col("at").min(),
        )
        .cast({name: totals.schema[name] for name in keys})
    )
    both = added.join(totals, on=keys, how="left", suffix=":before")
    kept = pl.lit(True)
    if counter.forget is not None:
        kept = pl.col("met_at") - pl.col("last_at:before") <= counter.forget
    return both.select(
        *keys,
        *(pl.col(name) + pl.when(kept).then(f"{name}:before").fill_null(0.0) for name in names),
        *(pl.coalesce(name, pl.when(kept).then(f"{name}:before")).alias(name) for name in counter.instants),
    )


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
    columns = [c for c in _columns(counter) if wanted is None or c[0] in wanted]
    instants = [name for name in counter.instants if wanted is None or name in wanted]
    names = [name for name, _, _ in columns]
    stack = _summed(_stack(totals, told, counter, since, names), columns)
    # Found flat, and so must not be carried from one run into the next.
    stack = stack.with_columns(
        pl.when(_latest("run", of=name) == pl.col("run")).then(_latest(name, of=name)).alias(name)
        for name in counter.instants
    ).with_row_index("place")
    # Of rows of one run and one instant, all see what stood before the first of them.
    first = (pl.col("run") != pl.col("run").shift(1)) | (pl.col("at") != pl.col("at").shift(1))
    before = pl.when(first.fill_null(True)).then(pl.col("place").cast(pl.Int64) - 1).forward_fill()
    asked = stack.select("row", "run", "at", before=before).filter(pl.col("row").is_not_null()).sort("row")
    seen = stack.select(*names, *counter.instants, seen="run")[asked["before"].clip(lower_bound=0)]
    held = (pl.col("seen") == pl.col("run")) & (pl.col("before") >= 0)
    if counter.forget is not None:
        held &= pl.col("at") - pl.col("last_at") <= counter.forget
    elapsed = (pl.col("at") - pl.lit(since)).dt.total_microseconds() / 1e6
    return pl.concat([asked, seen], how="horizontal").select(
        *(
            pl.when(held).then(pl.col(name) * _decay(elapsed, seconds)).otherwise(0.0).alias(name)
            for name, _, seconds in columns
        ),
        *(pl.when(held).then(pl.col(name)).alias(name) for name in instants),
    )


def _stack(
    totals: pl.DataFrame,
    told: pl.DataFrame,
    counter: Counter,
    since: datetime,
    names: list[str],
) -> pl.DataFrame:
    """Totals and what was told, by key and time, with `run`: a number for each stretch without forgetting, ascending.

    Quantities are weighted for each half-life of `names`; totals are the first fact of their key.
    """
    keys = list(counter.keys)
    if not told["at"].is_sorted():
        told = told.sort("at", maintain_order=True)
    these = told.select(keys).unique().cast({name: totals.schema[name] for name in keys})
    known = totals.join(these, on=keys, how="semi").select(
        *(pl.col(name).cast(told.schema[name]) for name in keys),
        *names,
        *counter.instants,
        at=pl.lit(since - timedelta(microseconds=1), _INSTANT),
    )
    weighted = _weighted(told, counter, since, names)
    stack = pl.concat([known, weighted], how="diagonal")
    # Both are in order of time: a stable sort by key alone keeps it.
    stack = stack.with_columns(key=_code(stack, counter.keys)).sort("key", maintain_order=True)
    begins = pl.col("key") != pl.col("key").shift(1)
    if counter.forget is not None:
        met = pl.col("last_at")
        same = _latest("key", of="last_at").shift(1) == pl.col("key")
        begins |= (same & (met - met.forward_fill().shift(1) > counter.forget)).fill_null(False)
    return stack.with_columns(run=begins.fill_null(True).cum_sum()).drop("key")


def _weighted(told: pl.DataFrame, counter: Counter, since: datetime, names: Collection[str]) -> pl.DataFrame:
    """Keys, quantities weighted for each half-life of `names`, the instants that they set, `at` and `row`, if any."""
    elapsed = (pl.col("at") - pl.lit(since)).dt.total_microseconds() / 1e6
    growth = {name: _decay(-elapsed, seconds) for name, seconds in counter.half_lives}
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


def _summed(stack: pl.DataFrame, columns: list[tuple[str, str, float | None]]) -> pl.DataFrame:
    """Running sums within each run.

    What hardly fades within the stack's time is summed through, less what stood at the run's start: weights of
    one magnitude lose nothing by it, and short runs cost no more than long ones. What fades by more, or sums values
    of whatever size, spans too many magnitudes for that, and is summed run by run.
    """
    begins = pl.col("run") != pl.col("run").shift(1, fill_value=0)
    span = stack.select((pl.col("at").max() - pl.col("at").min()).dt.total_seconds()).item() or 0
    apart = [
        name
        for name, quantity, seconds in columns
        if quantity.endswith(_SUMS) or (seconds is not None and span > _HARDLY * seconds)
    ]
    through = {name: pl.col(name).cum_sum() for name, _, _ in columns if name not in apart}
    stack = stack.with_columns(
        (total - pl.when(begins).then(total - pl.col(name)).forward_fill()).alias(name)
        for name, total in through.items()
    )
    if not apart:
        return stack
    summed = stack.group_by("run", maintain_order=True).agg(pl.col(apart).cum_sum())
    return pl.concat([stack.drop(apart), summed.select(pl.col(apart).explode())], how="horizontal")


def _code(stack: pl.DataFrame, keys: tuple[str, ...]) -> pl.Expr:
    """One integer a key: sorting and grouping integers takes a fraction of what strings take."""
    codes = stack.select(_whole(pl.col(name), stack.schema[name]) for name in keys)
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


def _latest(name: str, of: str) -> pl.Expr:
    """Value of a column at the last row, up to here, at which column `of` is not null."""
    return pl.when(pl.col(of).is_not_null()).then(pl.col(name)).forward_fill()


def _columns(counter: Counter) -> list[tuple[str, str, float | None]]:
    return [(column(q, name), q, seconds) for q in counter.quantities for name, seconds in counter.half_lives]


def _decay(elapsed: pl.Expr, seconds: float | None) -> pl.Expr:
    return pl.lit(1.0) if seconds is None else (-elapsed / seconds * _LN2).exp()
