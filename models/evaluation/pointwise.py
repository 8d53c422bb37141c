"""Evaluation of impressions of one candidate: across impressions, with pooled AUC and log loss."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from models.evaluation.intervals import NOTHING, Interval, interval_of, resampled_auc
from models.evaluation.metrics import LOG_LOSS, check_scores, log_loss, pooled_auc


def values(frame: pl.DataFrame, scorers: Sequence[str], probabilities: Mapping[str, str]) -> pl.DataFrame:
    """Rows of `EvaluationResult.values`: one per impression and scorer, with `label, score, log_loss`.

    `frame`: `impression_id, item_id, label`, a column per scorer, and the columns in `probabilities` (scorer → column);
    a scorer without one has null log loss. If all labels are positive, or none, no row is `evaluated`: neither metric
    can distinguish scorers.
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
    """Pooled AUC of one scorer's rows; None if there is only one class."""
    return pooled_auc(rows.with_columns(item_id=pl.lit("")))


def auc_interval(rows: pl.DataFrame, seed: int, resamples: int, confidence: float) -> Interval:
    """Pooled AUC of one scorer's rows and its interval."""
    mean = auc(rows)
    return NOTHING if mean is None else interval_of(mean, resampled_auc(rows, seed, resamples), confidence)


def auc_difference(
    first: pl.DataFrame, second: pl.DataFrame, seed: int, resamples: int, confidence: float
) -> Interval:
    """Pooled AUC of `first` minus that of `second`, with its paired interval; both have the same impressions."""
    mean, other = auc(first), auc(second)
    if mean is None or other is None:
        return NOTHING
    resampled = [resampled_auc(rows, seed, resamples) for rows in (first, second)]
    return interval_of(mean - other, np.subtract(*resampled), confidence)
