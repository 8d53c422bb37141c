"""Ranking metrics: one value per impression, no averaging.

Definitions, for a list whose rows stand in the order of `models.ranking`:

- nDCG@k = Σ label / log2(rank + 1) over the first k ranks, divided by the same sum in the best order
  (Järvelin & Kekäläinen 2002, with linear gain: a label *is* its declared gain).
- recall@k = share of the list's positives that stand in the first k ranks. In a list of at most k rows it is 1.
- MRR = 1 / rank of the first positive (Voorhees 1999).
- AUC = share of (positive, other) pairs in the right order (Mann-Whitney U from average ranks).

A row is positive if its label is above 0. Equal scores: the metrics of ranks break ties as `models.ranking` does,
by a hash of the item, so a list has one order; AUC, which knows no ranks, counts a tied pair one half. Where a list
has no positive, nothing but positives, or no rows that were chosen, there is no click to find: its metrics are null
(or the list is absent), to be counted and left out of means.

Impressions of one candidate have no order. They are evaluated across impressions: by pooled AUC, and by the log loss
of the click probability.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import ModelError
from models.ranking import order, require

METRICS = ("ndcg@5", "ndcg@10", "recall@10", "mrr", "auc")
"""Names of the per-impression metrics, in the order they are shown."""

POOLED_AUC = "pooled_auc"
LOG_LOSS = "log_loss"

_COLUMNS = ("impression_id", "item_id", "label")

_Floats = NDArray[np.float64]
_Counts = NDArray[np.int64]
_Flags = NDArray[np.bool_]


class Lists:
    """Lists under several scorers: each scorer is sorted once, whatever parts of the lists are evaluated."""

    def __init__(self, frame: pl.DataFrame, scorers: Sequence[str]) -> None:
        """`frame`: `impression_id`, `item_id`, `label` (≥ 0) and a column a scorer. Raises as `per_impression`."""
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

    def measure(self, scorer: str, chosen: _Flags | None = None) -> pl.DataFrame:
        """As `per_impression`, of the `chosen` rows ranked among themselves; lists without one are left out."""
        rows, best = self._orders[scorer], self._best
        if chosen is not None:
            rows, best = rows[chosen[rows]], best[chosen[best]]
        starts = np.flatnonzero(np.diff(self._list[rows], prepend=-1))
        ranked = _Ranked(starts, self._label[rows], self._scores[scorer][rows], self._label[best])
        return pl.DataFrame(
            {
                "impression_id": self._ids.gather(self._list[rows][starts]),
                "candidates": ranked.sizes,
                "positives": ranked.positives,
                **ranked.metrics(),
            }
        )


def per_impression(frame: pl.DataFrame) -> pl.DataFrame:
    """One row per impression, sorted by `impression_id`.

    `frame`: `impression_id`, `item_id`, `label` (≥ 0), `score`. Returns `impression_id`, `candidates`,
    `positives` and the columns of METRICS (Float64, null where the impression cannot be evaluated). Raises
    TableError for a missing column, ModelError for a null or NaN score or a null, NaN or negative label.
    """
    return Lists(frame, ["score"]).measure("score")


def has_lists(frame: pl.DataFrame) -> bool:
    """Whether any impression of `frame` (a row a candidate) has two candidates, so that there is an order to evaluate."""
    return frame["impression_id"].n_unique() < frame.height


def log_loss(probability: pl.Series, clicked: pl.Series) -> pl.Series:
    """−log of the probability given to what happened, a value a row, in nats; probabilities are cut at 1e-15."""
    given = pl.select(pl.when(clicked).then(probability).otherwise(1 - probability)).to_series()
    return -given.cast(pl.Float64).clip(1e-15, 1.0).log().alias(LOG_LOSS)


def pooled_auc(frame: pl.DataFrame) -> float | None:
    """AUC over all rows of all impressions (columns as for `per_impression`); None with one class only."""
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
class _Ranked:
    """Rows of lists one after another, each list in its order: best score first, ties next to each other."""

    starts: _Counts
    """First row of each list."""
    label: _Floats
    score: _Floats
    best_label: _Floats
    """The labels of each list from great to small."""

    @cached_property
    def sizes(self) -> _Counts:
        return np.diff(self.starts, append=self.label.size)

    @cached_property
    def rank(self) -> _Counts:
        return np.arange(self.label.size) - np.repeat(self.starts, self.sizes) + 1

    @cached_property
    def positive(self) -> _Flags:
        return self.label > 0

    @cached_property
    def positives(self) -> _Counts:
        return self._sum(self.positive.astype(np.int64))

    def metrics(self) -> dict[str, pl.Series]:
        """METRICS of each list; null where it cannot be evaluated."""
        others = self.sizes - self.positives
        parts = {
            **{f"ndcg@{k}": (self._gain(self.label, k), self._gain(self.best_label, k)) for k in (5, 10)},
            "recall@10": (self._sum(self.positive & (self.rank <= 10)), self.positives),
            "mrr": (np.ones(self.starts.size), self._first),
            "auc": (self._pairs_won, self.positives * others),
        }
        evaluated = (self.positives > 0) & (others > 0)
        shares = {
            name: np.divide(part, whole, out=np.full(evaluated.size, np.nan), where=evaluated)
            for name, (part, whole) in parts.items()
        }
        return {name: pl.Series(shares[name], dtype=pl.Float64).fill_nan(None) for name in METRICS}

    def _gain(self, label: _Floats, k: int) -> _Floats:
        return self._sum(np.where(self.rank <= k, label / np.log2(self.rank + 1), 0.0))

    @property
    def _first(self) -> _Counts:
        """Rank of the first positive."""
        return np.minimum.reduceat(np.where(self.positive, self.rank, self.label.size + 1), self.starts)

    @property
    def _pairs_won(self) -> _Floats:
        """(Positive, other) pairs in the right order: equal scores share the mean of their ranks from below."""
        begins = self.rank == 1
        begins[1:] |= self.score[1:] != self.score[:-1]
        tied = np.flatnonzero(begins)
        length = np.diff(tied, append=self.score.size)
        place = np.repeat(self.rank[tied] + (length - 1) / 2, length)
        below = np.repeat(self.sizes + 1, self.sizes) - place
        return self._sum(np.where(self.positive, below, 0.0)) - self.positives * (self.positives + 1) / 2

    def _sum(self, values: NDArray[Any]) -> NDArray[Any]:
        """Of each list."""
        whole = np.int64 if values.dtype.kind in "bi" else np.float64
        return np.add.reduceat(values, self.starts, dtype=whole)


def check_scores(frame: pl.DataFrame, scorer: str) -> None:
    """Raise TableError for a missing column, ModelError for a score or label that is no number."""
    require(frame, (*_COLUMNS, scorer), "a metric")
    label, score = pl.col("label").cast(pl.Float64), pl.col(scorer).cast(pl.Float64)
    for column, bad, expected in (
        ("label", label.is_null() | label.is_nan() | (label < 0), "a gain of 0 or more"),
        (scorer, score.is_null() | score.is_nan(), "a number"),
    ):
        invalid = frame.select(bad.sum()).item()
        if invalid:
            raise ModelError(
                f"{invalid} of {frame.height} rows have a {column!r} that is not {expected}: mend the "
                f"{'labels.gains of the project file' if column == 'label' else 'scorer'}, then evaluate again"
            )
