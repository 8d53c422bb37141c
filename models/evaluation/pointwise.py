"""Scorers evaluated on impressions of one candidate: across impressions, by pooled AUC and log loss."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from models.evaluation.intervals import NOTHING, Interval, interval_of, resampled_auc
from models.evaluation.metrics import LOG_LOSS, POOLED_AUC, check_scores, log_loss, pooled_auc

METRICS = (POOLED_AUC, LOG_LOSS)
"""Pooled AUC: higher is better, 0.5 is chance. Log loss in nats: lower is better."""


def values(frame: pl.DataFrame, scorers: Sequence[str], probabilities: Mapping[str, str]) -> pl.DataFrame:
    """A row an impression and scorer: `scorer, impression_id, candidates, positives, evaluated, label, score, log_loss`.

    `frame`: `impression_id, item_id, label`, a column a scorer, and the columns that `probabilities` names (scorer →
    column); without one the scorer's log loss is null. Where all labels are on one side nothing is `evaluated`: neither
    metric can tell scorers apart.
    """
    clicked = pl.col("label") > 0
    both = 0 < frame.select(clicked.sum()).item() < frame.height
    parts = []
    for scorer in scorers:
        check_scores(frame, scorer)
        losses: pl.Series | pl.Expr = pl.lit(None, pl.Float64)
        if scorer in probabilities:
            losses = log_loss(frame[probabilities[scorer]], frame["label"] > 0)
        parts.append(
            frame.select(
                "impression_id",
                segment=pl.lit(""),
                scorer=pl.lit(scorer),
                candidates=pl.lit(1, pl.Int64),
                positives=clicked.cast(pl.Int64),
                evaluated=pl.lit(both),
                label=pl.col("label").cast(pl.Float64),
                score=pl.col(scorer).cast(pl.Float64),
            ).with_columns(losses.alias(LOG_LOSS))
        )
    return pl.concat(parts)


def auc(rows: pl.DataFrame) -> float | None:
    """Pooled AUC of one scorer's rows; None where labels are all on one side."""
    return pooled_auc(rows.with_columns(item_id=pl.lit("")))


def auc_interval(rows: pl.DataFrame, seed: int, resamples: int, confidence: float) -> Interval:
    """Pooled AUC of one scorer's rows and its interval."""
    mean = auc(rows)
    return NOTHING if mean is None else interval_of(mean, resampled_auc(rows, seed, resamples), confidence)


def auc_difference(
    first: pl.DataFrame, second: pl.DataFrame, seed: int, resamples: int, confidence: float
) -> Interval:
    """Pooled AUC of `first` less that of `second` and its paired interval; both hold the same impressions."""
    one, other = auc(first), auc(second)
    if one is None or other is None:
        return NOTHING
    resampled = [resampled_auc(rows, seed, resamples) for rows in (first, second)]
    return interval_of(one - other, np.subtract(*resampled), confidence)
