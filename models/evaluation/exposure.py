"""What lists show, whatever their accuracy: how much of the stock, how novel, how varied, and who gets the places."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.schemas import Exposure
from models.evaluation.segments import attribute_values
from models.ranking import require, top

_LISTS = 4096
"""Lists whose vectors are held at once."""


def beyond_accuracy(
    scored: pl.DataFrame,
    scorers: Sequence[str],
    vectors: pl.DataFrame | None = None,
    k: int = 10,
    popularity: str = "popularity",
) -> pl.DataFrame:
    """What the scorers' top-`k` lists show: one row per scorer, Float64; null where it cannot be said.

    - `coverage`: share of all candidate items that reach a top-k.
    - `gini`: inequality of exposure over all candidate items, 0 if all are shown equally often, near 1 if one takes
      all.
    - `novelty`: mean of −log2 p over the places, bits (Vargas & Castells 2011); p is an item's share of what all
      candidate items had of `popularity` when first shown in `scored`, one added to each.
    - `diversity`: mean over lists of the mean of 1 − cosine over the pairs of items in a top-k; items without a
      vector are left out. `vectors`: `item_id, vector`, of unit length; null without it.
    - `popularity`: mean of that column over the places; `popularity_lift`: that, divided by its mean over all
      candidates. Above 1, the scorer prefers what is popular already.

    `scored`: `impression_id`, `item_id`, a column per scorer and `popularity`. Raises TableError where one is missing.
    """
    require(scored, ("impression_id", "item_id", popularity, *scorers), "exposure")
    # Once for all scorers: "popularity" may be a scorer too.
    counts = pl.col(popularity).cast(pl.Float64)
    frame = scored.with_columns(counts.alias("__popularity"))
    items = frame.group_by("item_id", maintain_order=True).agg(pl.col("__popularity").min() + 1)
    surprise = items.with_columns(bits=-(pl.col("__popularity") / pl.col("__popularity").sum()).log(2))
    usual = frame["__popularity"].mean()
    rows = []
    for scorer in scorers:
        shown = top(frame, k, score=scorer)
        bits = shown.join(surprise.select("item_id", "bits"), on="item_id")["bits"].mean()
        mean = shown["__popularity"].mean()
        lift = mean / usual if isinstance(mean, float) and isinstance(usual, float) and usual else None
        rows.append((scorer, *_spread(items, shown), bits, _diversity(shown, vectors), mean, lift))
    names = ("coverage", "gini", "novelty", "diversity", "popularity", "popularity_lift")
    return pl.DataFrame(rows, schema={"scorer": pl.String, **dict.fromkeys(names, pl.Float64)}, orient="row")


def exposure(
    scored: pl.DataFrame, scorers: Sequence[str], attributes: Sequence[str], k: int = 10
) -> pl.DataFrame:
    """`schemas.Exposure`: how much of the top-`k` places each value of the declared `attributes` gets.

    An item with several values of an attribute counts for each in equal parts, so that the shares of an attribute
    sum to 1; items without any are counted under a null value. `scored` as for `segments`, with `clicked`.
    """
    require(scored, ("impression_id", "item_id", "clicked", "attributes", *scorers), "exposure")
    rows = scored.drop("row", strict=False).with_row_index("row")
    first = {scorer: top(rows, k, score=scorer).select("row") for scorer in scorers}
    facts = attribute_values(scored)
    parts = []
    for name in attributes:
        told = facts.filter(pl.col("name") == name).select("row", "value")
        weighted = rows.select("row", "clicked").join(told, on="row", how="left", maintain_order="left")
        weighted = weighted.with_columns(weight=1 / pl.len().over("row"))
        among = weighted.group_by("value", maintain_order=True).agg(
            candidates=pl.col("weight").sum(), clicks=pl.col("weight").filter("clicked").sum()
        )
        for scorer in scorers:
            places = weighted.join(first[scorer], on="row", how="semi")
            shown = places.group_by("value").agg(places=pl.col("weight").sum())
            parts.append(
                among.join(shown, on="value", how="left", nulls_equal=True, maintain_order="left")
                .with_columns(pl.col("places").fill_null(0.0), scorer=pl.lit(scorer), attribute=pl.lit(name))
                .sort("candidates", "value", descending=[True, False], nulls_last=True)
            )
    if not parts:
        return Exposure.create_empty()
    of = {"share_of_positions": "places", "share_of_candidates": "candidates", "share_of_clicks": "clicks"}
    within = ("scorer", "attribute")
    table = pl.concat(parts).with_columns(
        **{share: pl.col(count) / pl.col(count).sum().over(within) for share, count in of.items()}
    )
    return Exposure.validate(table.with_columns(pl.col(*of).fill_nan(None)).select(Exposure.column_names()))


def _spread(items: pl.DataFrame, shown: pl.DataFrame) -> tuple[float | None, float | None]:
    """Coverage and Gini coefficient."""
    times = items.select("item_id").join(shown.group_by("item_id").len("times"), on="item_id", how="left")
    ordered = times["times"].fill_null(0).sort().to_numpy().astype(np.float64)
    if not ordered.sum():
        return None, None
    place = 2 * np.arange(1, ordered.size + 1) - ordered.size - 1
    return float((ordered > 0).mean()), float(place @ ordered / (ordered.size * ordered.sum()))


def _diversity(shown: pl.DataFrame, vectors: pl.DataFrame | None) -> float | None:
    """Mean over lists of the mean pairwise 1 − cosine."""
    if vectors is None or not vectors.height:
        return None
    known = vectors.unique("item_id", keep="last", maintain_order=True).with_row_index("place")
    places = shown.select("impression_id", "item_id").join(
        known.select("item_id", "place"), on="item_id", maintain_order="left"
    )
    lists = (
        places.group_by("impression_id", maintain_order=True)
        .agg("place")
        .filter(pl.col("place").list.len() > 1)
    )
    if not lists.height:
        return None
    matrix = known["vector"].explode().to_numpy().reshape(known.height, -1)
    cosines = [
        _cosines(matrix, lists["place"][begin : begin + _LISTS]) for begin in range(0, lists.height, _LISTS)
    ]
    return float(1 - np.concatenate(cosines).mean())


def _cosines(matrix: NDArray[np.float32], lists: pl.Series) -> NDArray[np.float64]:
    """Mean cosine over the pairs of each list, from the length of the sum of its unit vectors."""
    sizes = lists.list.len().to_numpy().astype(np.int64)
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    sums = np.add.reduceat(matrix[lists.explode().to_numpy()], starts)
    # Of n unit vectors: |Σv|² = n + n(n − 1) · the mean cosine.
    mean: NDArray[np.float64] = ((sums.astype(np.float64) ** 2).sum(axis=1) - sizes) / (sizes * (sizes - 1))
    return mean
