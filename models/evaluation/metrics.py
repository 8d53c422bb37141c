"""Ranking metrics: one value per impression, not averaged.

Definitions, for an impression ranked by `models.ranking`:

- nDCG@k = Σ label / log2(rank + 1) over the first k ranks, divided by the same sum in the best order
  (Järvelin & Kekäläinen 2002, with linear gain: the label is the gain).
- recall@k = share of the positives in the first k ranks; 1 if there are at most k candidates.
- MRR = 1 / rank of the first positive (Voorhees 1999).
- AUC = share of (positive, other) pairs in the right order (Mann-Whitney U from average ranks).

A row is positive if its label is above 0. Ties: metrics of ranks break them by a hash of the item, as `models.ranking`
does, so that each impression has one order; AUC counts a tied pair as one half. An impression without a positive, or
with positives only, has null metrics; one without selected rows is absent.

Impressions of one candidate have no order. They are evaluated across impressions, with pooled AUC and the log loss of
the click probability. Which metrics apply follows from the impressions: `MetricSet.of`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.config.extensions import extended
from features.config.sections import Evaluation
from features.errors import ModelError
from models.ranking import order, require

POOLED_AUC = "pooled_auc"
LOG_LOSS = "log_loss"

_COLUMNS = ("impression_id", "item_id", "label")

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Lists:
    """Impressions with the scores of several scorers; each scorer is sorted once for all segments."""

    def __init__(self, frame: pl.DataFrame, scorers: Sequence[str]) -> None:
        """`frame`: `impression_id`, `item_id`, `label` (≥ 0) and a column per scorer. Raises as `per_impression`."""
        for scorer in scorers:
            check_scores(frame, scorer)
        number = frame["impression_id"].rank("dense").cast(pl.Int64) - 1
        keys = frame.select("item_id", impression_id=number, row=pl.int_range(pl.len()))
        scores = {scorer: frame[scorer].cast(pl.Float64) for scorer in scorers}
        self._ids = frame["impression_id"].unique().sort()
        self._list = number.to_numpy()
        self._label = frame["label"].cast(pl.Float64).to_numpy()
        self._scores = {scorer: score.to_numpy() for scorer, score in scores.items()}
        self._orders = {
            scorer: order(keys.with_columns(score=score))["row"].to_numpy()
            for scorer, score in scores.items()
        }
        self._best = np.lexsort((-self._label, self._list))

    def measure(
        self, scorer: str, selected: Flags | None = None, metrics: "Mapping[str, Metric] | None" = None
    ) -> pl.DataFrame:
        """As `per_impression`, of the `selected` rows ranked among themselves; impressions without any are left out."""
        rows, best = self._orders[scorer], self._best
        if selected is not None:
            rows, best = rows[selected[rows]], best[selected[best]]
        starts = np.flatnonzero(np.diff(self._list[rows], prepend=-1))
        ranked = Ranked(starts, self._label[rows], self._scores[scorer][rows], self._label[best])
        return pl.DataFrame(
            {
                "impression_id": self._ids.gather(self._list[rows][starts]),
                "candidates": ranked.sizes,
                "positives": ranked.positives,
                **ranked.measure(metrics or METRICS),
            }
        )


def per_impression(frame: pl.DataFrame, metrics: "Mapping[str, Metric] | None" = None) -> pl.DataFrame:
    """One row per impression, sorted by `impression_id`.

    `frame`: `impression_id`, `item_id`, `label` (≥ 0), `score`. Returns `impression_id`, `candidates`, `positives` and
    a column for each of `metrics`, by default METRICS (Float64, null where the impression cannot be evaluated). Raises
    TableError for a missing column, ModelError for a null or NaN score or a null, NaN or negative label.
    """
    return Lists(frame, ["score"]).measure("score", metrics=metrics)


def log_loss(probability: pl.Series, clicked: pl.Series) -> pl.Series:
    """Per row: −log of the predicted probability of the outcome, in nats, clipped at 1e-15."""
    outcome = pl.select(pl.when(clicked).then(probability).otherwise(1 - probability)).to_series()
    return -outcome.cast(pl.Float64).clip(1e-15, 1.0).log().alias(LOG_LOSS)


def pooled_auc(frame: pl.DataFrame) -> float | None:
    """AUC over all rows of all impressions (columns as for `per_impression`); None if there is only one class."""
    check_scores(frame, "score")
    positives, others, below = frame.select(
        positives=(pl.col("label") > 0).sum().cast(pl.Float64),
        others=(pl.col("label") <= 0).sum().cast(pl.Float64),
        below=pl.col("score").cast(pl.Float64).rank("average").filter(pl.col("label") > 0).sum(),
    ).row(0)
    if not positives or not others:
        return None
    return float((below - positives * (positives + 1) / 2) / (positives * others))


@dataclass(frozen=True)
class Ranked:
    """Rows of consecutive impressions, each ranked: best score first, ties adjacent."""

    starts: Counts
    """First row of each impression."""
    label: Floats
    score: Floats
    best_label: Floats
    """Labels of each impression in the best order."""

    @cached_property
    def sizes(self) -> Counts:
        """Candidates of each impression."""
        return np.diff(self.starts, append=self.label.size)

    @cached_property
    def rank(self) -> Counts:
        """Rank of each row in its impression, from 1."""
        return np.arange(self.label.size) - np.repeat(self.starts, self.sizes) + 1

    @cached_property
    def positive(self) -> Flags:
        """Whether a row's label is above 0."""
        return self.label > 0

    @cached_property
    def positives(self) -> Counts:
        """Positive rows of each impression."""
        return self.sum(self.positive.astype(np.int64))

    def sum(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sum of the rows' values over each impression."""
        dtype = np.int64 if values.dtype.kind in "bi" else np.float64
        return np.add.reduceat(values, self.starts, dtype=dtype)

    def measure(self, metrics: "Mapping[str, Metric]") -> dict[str, pl.Series]:
        """Each metric of each impression; null if it cannot be evaluated."""
        evaluated = (self.positives > 0) & (self.positives < self.sizes)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = {name: np.where(evaluated, metric(self), np.nan) for name, metric in metrics.items()}
        return {name: pl.Series(value, dtype=pl.Float64).fill_nan(None) for name, value in values.items()}


def _ndcg(k: int) -> "Metric":
    def gain(ranked: Ranked, label: Floats) -> Floats:
        return ranked.sum(np.where(ranked.rank <= k, label / np.log2(ranked.rank + 1), 0.0))

    return lambda ranked: gain(ranked, ranked.label) / gain(ranked, ranked.best_label)


def _recall(k: int) -> "Metric":
    return lambda ranked: ranked.sum(ranked.positive & (ranked.rank <= k)) / ranked.positives


def _mrr(ranked: Ranked) -> Floats:
    first = np.where(ranked.positive, ranked.rank, ranked.label.size + 1)
    return 1.0 / np.minimum.reduceat(first, ranked.starts)


def _auc(ranked: Ranked) -> Floats:
    """Share of (positive, other) pairs in order, from ranks from below; tied scores share their mean rank."""
    begins = ranked.rank == 1
    begins[1:] |= ranked.score[1:] != ranked.score[:-1]
    tied = np.flatnonzero(begins)
    length = np.diff(tied, append=ranked.score.size)
    mean_rank = np.repeat(ranked.rank[tied] + (length - 1) / 2, length)
    below = ranked.sum(np.where(ranked.positive, np.repeat(ranked.sizes + 1, ranked.sizes) - mean_rank, 0.0))
    positives = ranked.positives
    return (below - positives * (positives + 1) / 2) / (positives * (ranked.sizes - positives))


Metric = Callable[[Ranked], Floats]
"""One value per impression; what it returns for impressions that cannot be evaluated is ignored."""

METRICS: Mapping[str, Metric] = {
    "ndcg@5": _ndcg(5),
    "ndcg@10": _ndcg(10),
    "recall@10": _recall(10),
    "mrr": _mrr,
    "auc": _auc,
}
"""The built-in metrics, in display order; those of `evaluation.metrics` come after them."""


class MetricSet(NamedTuple):
    """The metrics of one kind of impressions."""

    headline: str
    """The metric of summaries and plots."""
    paired: tuple[str, ...]
    """Metrics with paired differences, by impression or by resample."""
    shown: tuple[str, ...]
    """Columns of a table, the headline first."""

    @staticmethod
    def of(frame: pl.DataFrame) -> "MetricSet":
        """LISTWISE if an impression of `frame`, one row per candidate, has several candidates, or if it is empty."""
        lists = frame.is_empty() or frame["impression_id"].n_unique() < frame.height
        return LISTWISE if lists else POINTWISE

    @staticmethod
    def among(metrics: Collection[str]) -> "MetricSet":
        """The set that results with these metrics were evaluated with."""
        return LISTWISE if LISTWISE.headline in metrics else POINTWISE


LISTWISE = MetricSet("ndcg@10", tuple(METRICS), ("ndcg@10", "ndcg@5", "mrr", "auc", POOLED_AUC))
POINTWISE = MetricSet(POOLED_AUC, (POOLED_AUC, LOG_LOSS), (POOLED_AUC, LOG_LOSS))
"""Pooled AUC: higher is better, 0.5 is chance. Log loss in nats: lower is better."""


def metrics_of(config: Evaluation) -> dict[str, Metric]:
    """The built-in metrics and the project's own, by name."""
    return extended(METRICS, config.metrics, Callable, "evaluation.metrics")


def check_scores(frame: pl.DataFrame, scorer: str) -> None:
    """Raise TableError for a missing column, ModelError for a score or label that is not a number."""
    require(frame, (*_COLUMNS, scorer), "a metric")
    label, score = pl.col("label").cast(pl.Float64), pl.col(scorer).cast(pl.Float64)
    for column, bad, expected in (
        ("label", label.is_null() | label.is_nan() | (label < 0), "a gain of 0 or more"),
        (scorer, score.is_null() | score.is_nan(), "a number"),
    ):
        invalid = frame.select(bad.sum()).item()
        if invalid:
            raise ModelError(
                f"{invalid} of {frame.height} rows have a {column!r} that is not {expected}: correct the "
                f"{'labels.gains of the project file' if column == 'label' else 'scorer'}, then evaluate again"
            )
