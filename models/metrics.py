"""Ranking metrics: one value per impression, no averaging.

Definitions, for a list whose rows stand in the order of `models.ranking`:

- nDCG@k = Σ label / log2(rank + 1) over the first k ranks, divided by the same sum in the best order
  (Järvelin & Kekäläinen 2002, with linear gain: a label *is* its declared gain).
- MRR = 1 / rank of the first positive (Voorhees 1999).
- AUC = share of (positive, other) pairs in the right order, a tied pair counting one half
  (Mann-Whitney U from average ranks).

A row is positive if its label is above 0. Where a list has no positive, or nothing but positives, there is no
click to find: its metrics are null, to be counted and left out of means.
"""

import polars as pl

from features.errors import ModelError
from models.ranking import order, require

METRICS = ("ndcg@5", "ndcg@10", "mrr", "auc")
"""Names of the per-impression metrics, in the order they are shown."""

_CUTS = (5, 10)
_COLUMNS = ("impression_id", "item_id", "label", "score")


def per_impression(frame: pl.DataFrame) -> pl.DataFrame:
    """One row per impression, sorted by `impression_id`.

    `frame`: `impression_id`, `item_id`, `label` (≥ 0), `score`. Returns `impression_id`, `candidates`,
    `positives` and the columns of METRICS (Float64, null where the impression cannot be judged). Raises
    TableError for a missing column, ModelError for a null or NaN score or a null, NaN or negative label.
    """
    _check(frame)
    number = pl.col("label", "score").cast(pl.Float64)
    rows = order(frame.select("impression_id", "item_id", number)).with_columns(
        positive=pl.col("label") > 0,
        best_rank=pl.col("label").rank("ordinal", descending=True).over("impression_id"),
        from_below=pl.col("score").rank("average").over("impression_id"),
    )
    positives, candidates = pl.col("positives").cast(pl.Float64), pl.col("candidates").cast(pl.Float64)
    pairs_won = pl.col("from_below_sum") - positives * (positives + 1) / 2
    gains = {
        f"{name}@{k}": (pl.col("label") / (pl.col(rank) + 1).log(2)).filter(pl.col(rank) <= k).sum()
        for name, rank in (("dcg", "rank"), ("best", "best_rank"))
        for k in _CUTS
    }
    judged = (pl.col("positives") > 0) & (pl.col("positives") < pl.col("candidates"))
    return (
        rows.group_by("impression_id", maintain_order=True)
        .agg(
            candidates=pl.len().cast(pl.Int64),
            positives=pl.col("positive").sum().cast(pl.Int64),
            first=pl.col("rank").filter("positive").min(),
            from_below_sum=pl.col("from_below").filter("positive").sum(),
            **gains,
        )
        .select(
            "impression_id",
            "candidates",
            "positives",
            *(
                pl.when(judged).then(pl.col(f"dcg@{k}") / pl.col(f"best@{k}")).alias(f"ndcg@{k}")
                for k in _CUTS
            ),
            pl.when(judged).then(1 / pl.col("first")).alias("mrr"),
            pl.when(judged).then(pairs_won / (positives * (candidates - positives))).alias("auc"),
        )
    )


def pooled_auc(frame: pl.DataFrame) -> float | None:
    """AUC over all rows of all impressions (columns as for `per_impression`); None with one class only."""
    _check(frame)
    positives, others, below = frame.select(
        positives=(pl.col("label") > 0).sum().cast(pl.Float64),
        others=(pl.col("label") <= 0).sum().cast(pl.Float64),
        below=pl.col("score").cast(pl.Float64).rank("average").filter(pl.col("label") > 0).sum(),
    ).row(0)
    if not positives or not others:
        return None
    return float((below - positives * (positives + 1) / 2) / (positives * others))


def _check(frame: pl.DataFrame) -> None:
    require(frame, _COLUMNS, "a metric")
    label, score = pl.col("label").cast(pl.Float64), pl.col("score").cast(pl.Float64)
    for column, bad, expected in (
        ("label", label.is_null() | label.is_nan() | (label < 0), "a gain of 0 or more"),
        ("score", score.is_null() | score.is_nan(), "a number"),
    ):
        invalid = frame.select(bad.sum()).item()
        if invalid:
            raise ModelError(
                f"{invalid} of {frame.height} rows have a {column!r} that is not {expected}: mend the "
                f"{'labels.gains of the project file' if column == 'label' else 'scorer'}, then judge again"
            )
