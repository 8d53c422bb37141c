"""Position propensities estimated from the log. They are used in training only, never as a feature.

Under the examination hypothesis P(click) = examined[position] · r[item]. Within a slice the same item is shown at
different positions, and its click rates differ by examination alone. This is intervention harvesting (Agarwal et al.,
WSDM 2019) as a Poisson regression with one effect per position and one per (slice, item). Its likelihood equations are
solved in turn:

    r[item]            = clicks of the item     / sum of examined[position] over its impressions
    examined[position] = clicks at the position / sum of r[item] over the items shown there

It assumes that, given item and slice, the position does not depend on the user. In a log with personalised order this
fails: positions where favourites are shown get too high a propensity.
"""

import numpy as np
import polars as pl

from models.ranking import require

_PRIOR_CLICKS = 5.0
"""Shrinkage of a position with few clicks to the average position."""
_STEPS = 100
_TOLERANCE = 1e-5
_KEYS = ("slice", "item_id", "position")


def propensities(dataset: pl.DataFrame) -> pl.DataFrame:
    """`position`, `propensity` (Float64, 1 at the first position) of every position in `dataset`.

    `dataset` has one row per candidate: `slice, item_id, position, label`; a label above 0 is a click. If items never
    change positions, or there are no clicks, every propensity is 1.
    """
    require(dataset, (*_KEYS, "label"), "propensities")
    return estimate(dataset.select(*_KEYS, shown=pl.lit(1.0), clicks=_clicked()))


def position_counts(dataset: pl.DataFrame) -> pl.DataFrame:
    """The sufficient statistics of `propensities`: `slice, item_id, position, shown, clicks`.

    Counts of several parts of a dataset may be concatenated for `estimate`.
    """
    require(dataset, (*_KEYS, "label"), "propensities")
    counts = dataset.group_by(_KEYS).agg(shown=pl.len().cast(pl.Float64), clicks=_clicked().sum())
    return counts.sort(_KEYS)


def estimate(counts: pl.DataFrame) -> pl.DataFrame:
    """`propensities` from position counts: how often an item was `shown` at a position of a slice, and its `clicks`."""
    position = counts["position"].unique().sort()
    if position.is_empty():
        return pl.DataFrame({"position": position, "propensity": pl.Series([], dtype=pl.Float64)})
    index = np.searchsorted(position.to_numpy(), counts["position"].to_numpy())
    item = counts.select(pl.struct("slice", "item_id").rank("dense")).to_series().to_numpy() - 1
    shown, clicks = counts["shown"].to_numpy(), counts["clicks"].to_numpy()
    impressions, position_clicks = np.bincount(index, shown), np.bincount(index, clicks)
    item_clicks = np.bincount(item, clicks)
    examined = np.ones(position.len())
    for _ in range(_STEPS):
        attraction = item_clicks / np.bincount(item, shown * examined[index])
        expected = np.bincount(index, shown * attraction[item])
        updated = (position_clicks + _PRIOR_CLICKS) / (expected + _PRIOR_CLICKS)
        updated /= np.average(updated, weights=impressions)
        change = np.abs(updated - examined).max()
        examined = updated
        if change < _TOLERANCE:
            break
    return pl.DataFrame({"position": position, "propensity": examined / examined[:1]})


def _clicked() -> pl.Expr:
    return (pl.col("label") > 0).cast(pl.Float64)
