"""When is a figure unusual? Against the slices before it, by median and spread, which one odd slice does not move."""

from collections.abc import Mapping, Sequence

import polars as pl

_TO_DEVIATIONS = 1.4826
"""Median absolute deviations of a normal distribution in one standard deviation."""
_LEAST_SPREAD = 0.05
"""Share of the median below which a spread is taken for chance: slices that were nearly equal prove nothing."""


def robust_z(before: Sequence[float], now: float, noise: float = 0.0) -> float:
    """Deviations of `now` from the median of `before`; their size is at least `noise`, and a little of the median."""
    values = pl.Series(before, dtype=pl.Float64)
    middle = float(values.median() or 0.0)  # type: ignore[arg-type]
    spread = _TO_DEVIATIONS * float((values - middle).abs().median() or 0.0)  # type: ignore[arg-type]
    least = max(spread, noise, _LEAST_SPREAD * abs(middle))
    if not least:
        return 0.0 if now == middle else float("inf")
    return (now - middle) / least


def unusual(
    values: Mapping[str, float],
    evaluated: Sequence[str],
    limit: float,
    trailing: int,
    fewest: int,
    noise: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Slice → z of the `evaluated` ones that lie more than `limit` from the `trailing` slices before them.

    A slice with fewer than `fewest` slices before it is not evaluated.
    """
    found = {}
    for key in evaluated:
        earlier = [value for other, value in sorted(values.items()) if other < key][-trailing:]
        if key in values and len(earlier) >= fewest:
            z = robust_z(earlier, values[key], (noise or {}).get(key, 0.0))
            if abs(z) > limit:
                found[key] = z
    return found


def click_noise(rate: float, shown: int) -> float:
    """Standard deviation of a click rate by chance alone."""
    return float((max(rate * (1 - rate), 0.0) / max(shown, 1)) ** 0.5)


def cosine_distance(one: pl.Series, other: pl.Series) -> float:
    """1 − cosine of two vectors of one length."""
    sizes = float((one**2).sum()) ** 0.5 * float((other**2).sum()) ** 0.5
    return 1.0 - float((one * other).sum()) / sizes if sizes else 0.0


def attribute_rates(candidates: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """`attribute, value, shown, clicked, rate` of the candidates by the values of their items, sorted.

    `candidates`: `item_id, clicked`; `items`: one row an item, `item_id, attributes`.
    """
    values = items.select("item_id", "attributes").explode("attributes").drop_nulls().unnest("attributes")
    values = values.rename({"name": "attribute"}).unique()
    return (
        candidates.group_by("item_id")
        .agg(shown=pl.len().cast(pl.Int64), clicked=pl.col("clicked").sum().cast(pl.Int64))
        .join(values, on="item_id")
        .group_by("attribute", "value")
        .agg(pl.col("shown", "clicked").sum())
        .with_columns(rate=pl.col("clicked") / pl.col("shown"))
        .sort("attribute", "value")
    )


def topic_shifts(
    rates: pl.DataFrame, before: pl.DataFrame, limit: float, fewest: int, shown: int
) -> pl.DataFrame:
    """`rates` with `expected, low, high` of the slices in `before`, and whether the rate `shifted` out of them.

    The band is the median ± `limit` spreads: of the rates before, or of chance at so many exposures, if that is
    more. It is null, and nothing shifted, for a value shown less than `shown` times or in fewer than `fewest` of
    the slices in `before` (as `rates`, with `slice`).
    """
    keys = ["attribute", "value"]
    middle = (
        before.filter(pl.col("shown") >= shown)
        .group_by(keys)
        .agg(expected=pl.col("rate").median(), spread=_mad(pl.col("rate")), slices=pl.len())
        .filter(pl.col("slices") >= fewest)
        .drop("slices")
    )
    expected = pl.col("expected")
    chance = (expected * (1 - expected) / pl.col("shown")).sqrt()
    reach = limit * pl.max_horizontal("spread", chance)
    return (
        rates.join(middle, on=keys, how="left", maintain_order="left")
        .with_columns(expected=pl.when(pl.col("shown") >= shown).then(expected))
        .with_columns(low=(expected - reach).clip(0, 1), high=(expected + reach).clip(0, 1))
        .with_columns(shifted=(~pl.col("rate").is_between("low", "high")).fill_null(False))
        .drop("spread")
    )


def _mad(values: pl.Expr) -> pl.Expr:
    return _TO_DEVIATIONS * (values - values.median()).abs().median()
