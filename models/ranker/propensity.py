"""How much a position is looked at, estimated from the log: training-time knowledge, never a feature.

Under the examination hypothesis a click needs a look and an attraction, P(click) = examined[position] · r[item].
The same item stands at different positions within a slice; what differs between them is the looking. This is
intervention harvesting (Agarwal et al., WSDM 2019) in the form of a Poisson regression with one effect a
position and one a (slice, item), whose likelihood equations are solved in turn:

    r[item]            = clicks of the item     / sum of examined[position] over where it stood
    examined[position] = clicks at the position / sum of r[item] over what stood there

It holds where, given the item and the slice, its position does not depend on whom it is shown to. A log whose
order was already personal breaks that: there the favourites' places look better than they are.
"""

import numpy as np
import polars as pl

from models.ranking import require

_PRIOR_CLICKS = 5.0
"""A position is worth the average place until it has clicks to say otherwise."""
_STEPS = 100
_TOLERANCE = 1e-5
_PLACE = ("slice", "item_id", "position")


def propensities(dataset: pl.DataFrame) -> pl.DataFrame:
    """`position`, `propensity` (Float64, 1 at the first position) of every position in `dataset`.

    `dataset` has a row a candidate with `slice, item_id, position, label`; a label above 0 is a click. Where
    items do not change places, or nobody clicks, every position is worth 1.
    """
    require(dataset, (*_PLACE, "label"), "propensities")
    return estimated(dataset.select(*_PLACE, shown=pl.lit(1.0), clicks=_clicked()))


def places(dataset: pl.DataFrame) -> pl.DataFrame:
    """All that `propensities` reads of a dataset, in few rows: `slice, item_id, position, shown, clicks`.

    Those of several parts of a dataset, one under another, say what the whole's would.
    """
    require(dataset, (*_PLACE, "label"), "propensities")
    counted = dataset.group_by(_PLACE).agg(shown=pl.len().cast(pl.Float64), clicks=_clicked().sum())
    return counted.sort(_PLACE)


def estimated(places: pl.DataFrame) -> pl.DataFrame:
    """`propensities` from how often each item was `shown` at each position of a slice, and its `clicks` there."""
    position = places["position"].unique().sort()
    if position.is_empty():
        return pl.DataFrame({"position": position, "propensity": pl.Series([], dtype=pl.Float64)})
    place = np.searchsorted(position.to_numpy(), places["position"].to_numpy())
    item = places.select(pl.struct("slice", "item_id").rank("dense")).to_series().to_numpy() - 1
    shown, clicks = places["shown"].to_numpy(), places["clicks"].to_numpy()
    traffic, of_place, of_item = (
        np.bincount(place, shown),
        np.bincount(place, clicks),
        np.bincount(item, clicks),
    )
    examined = np.ones(position.len())
    for _ in range(_STEPS):
        attraction = of_item / np.bincount(item, shown * examined[place])
        expected = np.bincount(place, shown * attraction[item])
        better = (of_place + _PRIOR_CLICKS) / (expected + _PRIOR_CLICKS)
        better /= np.average(better, weights=traffic)
        moved = np.abs(better - examined).max()
        examined = better
        if moved < _TOLERANCE:
            break
    return pl.DataFrame({"position": position, "propensity": examined / examined[:1]})


def _clicked() -> pl.Expr:
    return (pl.col("label") > 0).cast(pl.Float64)
