"""Exposure, beyond accuracy: catalogue coverage, novelty, diversity, and the positions that attribute values get."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.schemas import Exposure
from models.evaluation.segments import attribute_values
from models.ranking import require, top

_BLOCK = 4096
"""Impressions whose vectors are in memory at once."""


def beyond_accuracy(
    scored: pl.DataFrame,
    scorers: Sequence[str],
    vectors: pl.DataFrame | None = None,
    k: int = 10,
    popularity: str = "popularity",
) -> pl.DataFrame:
    """Coverage, novelty and diversity of the scorers' top-`k`: one row per scorer, Float64; null if undefined.

    - `coverage`: share of all candidate items that reach a top-k.
    - `gini`: inequality of exposure over all candidate items, 0 if all are shown equally often, near 1 if one item
      gets all exposures.
    - `novelty`: mean of −log2 p over the top-k, in bits (Vargas & Castells 2011); p is an item's share of the
      `popularity` of all candidate items, each at its minimum in `scored` plus one.
    - `diversity`: mean over impressions of the mean of 1 − cosine over the pairs of items in a top-k, without items
      that have no vector. `vectors`: `item_id, vector`, of unit length; without it the diversity is null.
    - `popularity`: mean of that column over the top-k; `popularity_lift`: divided by its mean over all candidates.
      Above 1, the scorer prefers popular items.

    `scored`: `impression_id`, `item_id`, a column per scorer and `popularity`. Raises TableError if one is missing.
    """
    require(scored, ("impression_id", "item_id", popularity, *scorers), "exposure")
    # Renamed, because "popularity" may also be a scorer.
    counts = pl.col(popularity).cast(pl.Float64)
    frame = scored.with_columns(counts.alias("__popularity"))
    items = frame.group_by("item_id", maintain_order=True).agg(pl.col("__popularity").min() + 1)
    information = items.with_columns(bits=-(pl.col("__popularity") / pl.col("__popularity").sum()).log(2))
    overall = frame["__popularity"].mean()
    rows = []
    for scorer in scorers:
        shown = top(frame, k, score=scorer)
        bits = shown.join(information.select("item_id", "bits"), on="item_id")["bits"].mean()
        mean = shown["__popularity"].mean()
        lift = mean / overall if isinstance(mean, float) and isinstance(overall, float) and overall else None
        rows.append((scorer, *_coverage_and_gini(items, shown), bits, _diversity(shown, vectors), mean, lift))
    names = ("coverage", "gini", "novelty", "diversity", "popularity", "popularity_lift")
    return pl.DataFrame(rows, schema={"scorer": pl.String, **dict.fromkeys(names, pl.Float64)}, orient="row")


def exposure(
    scored: pl.DataFrame, scorers: Sequence[str], attributes: Sequence[str], k: int = 10
) -> pl.DataFrame:
    """`schemas.Exposure`: the share of top-`k` positions that each value of the declared `attributes` gets.

    An item with several values of an attribute counts for each in equal parts, so that an attribute's shares sum to 1;
    items without a value count under null. `scored` as for `segments`, with `clicked`.
    """
    require(scored, ("impression_id", "item_id", "clicked", "attributes", *scorers), "exposure")
    rows = scored.drop("row", strict=False).with_row_index("row")
    top_rows = {scorer: top(rows, k, score=scorer).select("row") for scorer in scorers}
    values = attribute_values(scored)
    parts = []
    for name in attributes:
        own = values.filter(pl.col("name") == name).select("row", "value")
        weighted = rows.select("row", "clicked").join(own, on="row", how="left", maintain_order="left")
        weighted = weighted.with_columns(weight=1 / pl.len().over("row"))
        totals = weighted.group_by("value", maintain_order=True).agg(
            candidates=pl.col("weight").sum(), clicks=pl.col("weight").filter("clicked").sum()
        )
        for scorer in scorers:
            in_top = weighted.join(top_rows[scorer], on="row", how="semi")
            shown = in_top.group_by("value").agg(places=pl.col("weight").sum())
            parts.append(
                totals.join(shown, on="value", how="left", nulls_equal=True, maintain_order="left")
                .with_columns(pl.col("places").fill_null(0.0), scorer=pl.lit(scorer), attribute=pl.lit(name))
                .sort("candidates", "value", descending=[True, False], nulls_last=True)
            )
    if not parts:
        return Exposure.create_empty()
    counts = {
        "share_of_positions": "places",
        "share_of_candidates": "candidates",
        "share_of_clicks": "clicks",
    }
    groups = ("scorer", "attribute")
    table = pl.concat(parts).with_columns(
        **{share: pl.col(count) / pl.col(count).sum().over(groups) for share, count in counts.items()}
    )
    return Exposure.validate(
        table.with_columns(pl.col(*counts).fill_nan(None)).select(Exposure.column_names())
    )


def _coverage_and_gini(items: pl.DataFrame, shown: pl.DataFrame) -> tuple[float | None, float | None]:
    """Coverage and Gini coefficient."""
    exposures = items.select("item_id").join(
        shown.group_by("item_id").len("exposures"), on="item_id", how="left"
    )
    ordered = exposures["exposures"].fill_null(0).sort().to_numpy().astype(np.float64)
    if not ordered.sum():
        return None, None
    weights = 2 * np.arange(1, ordered.size + 1) - ordered.size - 1
    return float((ordered > 0).mean()), float(weights @ ordered / (ordered.size * ordered.sum()))


def _diversity(shown: pl.DataFrame, vectors: pl.DataFrame | None) -> float | None:
    """Mean over impressions of the mean pairwise 1 − cosine."""
    if vectors is None or not vectors.height:
        return None
    known = vectors.unique("item_id", keep="last", maintain_order=True).with_row_index("vector_row")
    rows = shown.select("impression_id", "item_id").join(
        known.select("item_id", "vector_row"), on="item_id", maintain_order="left"
    )
    lists = (
        rows.group_by("impression_id", maintain_order=True)
        .agg("vector_row")
        .filter(pl.col("vector_row").list.len() > 1)
    )
    if not lists.height:
        return None
    matrix = known["vector"].explode().to_numpy().reshape(known.height, -1)
    cosines = [
        _cosines(matrix, lists["vector_row"][begin : begin + _BLOCK])
        for begin in range(0, lists.height, _BLOCK)
    ]
    return float(1 - np.concatenate(cosines).mean())


def _cosines(matrix: NDArray[np.float32], lists: pl.Series) -> NDArray[np.float64]:
    """Mean cosine over the pairs of rows of `matrix` (unit vectors) in each list, from the length of their sum."""
    sizes = lists.list.len().to_numpy().astype(np.int64)
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    sums = np.add.reduceat(matrix[lists.explode().to_numpy()], starts)
    # For n unit vectors, |Σv|² = n + n(n − 1) · mean cosine.
    mean: NDArray[np.float64] = ((sums.astype(np.float64) ** 2).sum(axis=1) - sizes) / (sizes * (sizes - 1))
    return mean
