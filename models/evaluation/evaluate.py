"""Evaluation: means over impressions with bootstrap intervals, every scorer on the same impressions.

All scorers and metrics share the same resamples (`intervals.py`), so differences between scorers are paired.

- Impressions of several candidates are evaluated with the metrics of `metrics.py`. Impressions without a positive, or
  with positives only, are counted as skipped and excluded from the means. Pooled AUC uses every row; its interval is
  computed over all rows only, because per segment it is too expensive.
- If every impression has one candidate, there is no order to evaluate. Scorers are evaluated across impressions with
  pooled AUC and, if they give a probability, its log loss (`pointwise.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import ModelError
from models.evaluation import pointwise
from models.evaluation.intervals import NOTHING, Interval, interval_of, mean_intervals, resampled_auc
from models.evaluation.metrics import (
    LISTWISE,
    LOG_LOSS,
    METRICS,
    POINTWISE,
    POOLED_AUC,
    Lists,
    Metric,
    MetricSet,
    pooled_auc,
)
from models.ranking import require

ALL = "all"
"""Name of the segment of all rows."""

_POOLED_RESAMPLES = 200
_KEYS = ("segment", "scorer", "impression_id", "candidates", "positives", "evaluated")
"""Columns of `EvaluationResult.values` before the metrics."""
_TABLE = {
    "scorer": pl.String,
    "metric": pl.String,
    "segment": pl.String,
    "mean": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "impressions": pl.Int64,
}


_Row = tuple[str, str, str, float, float, float, int]


@dataclass(frozen=True)
class EvaluationResult:
    """Metrics of each scorer, with confidence intervals."""

    impressions: int
    """Evaluated impressions: those with a positive and another candidate."""
    skipped: int
    """Impressions without a positive, or with positives only."""
    table: pl.DataFrame
    """`scorer, metric, segment, mean, low, high, impressions`; means are null if nothing was evaluated."""
    values: pl.DataFrame
    """`segment, scorer, impression_id, candidates, positives, evaluated` and metrics; includes skipped impressions."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Segments with too few evaluated impressions to report → how many they have."""
    metrics: MetricSet = LISTWISE

    def as_json(self, segment: str = ALL) -> dict[str, Any]:
        """`{"impressions", "headline", "scorers": {scorer: {metric: {"mean", "low", "high"}}}}` of a segment."""
        scorers: dict[str, dict[str, dict[str, float | None]]] = {}
        for row in self.table.filter(pl.col("segment") == segment).iter_rows(named=True):
            interval = {end: row[end] for end in ("mean", "low", "high")}
            scorers.setdefault(row["scorer"], {})[row["metric"]] = interval
        return {"impressions": self.impressions, "headline": self.metrics.headline, "scorers": scorers}

    def segments_as_json(self) -> dict[str, Any]:
        """Segment → its `scorers`, as in `as_json`."""
        names = self.table["segment"].unique(maintain_order=True)
        return {name: self.as_json(name)["scorers"] for name in names if name != ALL}


def evaluate(
    frame: pl.DataFrame,
    scorers: Sequence[str],
    segments: Mapping[str, pl.Expr] | None = None,
    *,
    listwise: Mapping[str, Metric] = METRICS,
    probabilities: Mapping[str, str] | None = None,
    min_impressions: int = 0,
    seed: int = 1,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> EvaluationResult:
    """Evaluate `scorers`, each a column of `frame`, on the same impressions.

    `frame`: `impression_id`, `item_id`, `label` and the score columns. A segment is a boolean expression that selects
    rows: one that is constant within an impression (new users) selects impressions; one that varies (new items)
    reduces each impression to the selected candidates, ranked among themselves. Segments with fewer than
    `min_impressions` evaluated impressions are left out. `listwise`: the metrics of impressions of several candidates.
    `probabilities`: scorer → its column of click probabilities, for the log loss of impressions of one candidate.
    Raises TableError for missing columns, ModelError for scores or labels that are not numbers.
    """
    values = impression_values(frame, scorers, segments, listwise, probabilities)
    metrics = MetricSet.among(values.columns)
    if metrics == LISTWISE:
        metrics = metrics._replace(paired=tuple(listwise))
    by_segment = values.filter("evaluated").group_by("segment").agg(pl.col("impression_id").n_unique())
    counts = dict.fromkeys(segments or {}, 0) | dict(by_segment.iter_rows())
    left_out = {name: counts[name] for name in segments or {} if counts[name] < min_impressions}
    values = values.filter(~pl.col("segment").is_in([*left_out]))
    tables = []
    for name, selected in {ALL: pl.lit(True), **(segments or {})}.items():
        if name in left_out:
            continue
        segment_values = values.filter(pl.col("segment") == name)
        if metrics == POINTWISE:
            tables.append(_single_summary(segment_values, name, scorers, seed, resamples, confidence))
            continue
        rows = frame.filter(selected)
        draws = min(resamples, _POOLED_RESAMPLES) if name == ALL else 0
        pooled = [_pooled(rows, scorer, name, seed, draws, confidence) for scorer in scorers]
        summary = _summary(segment_values, name, scorers, [*listwise], seed, resamples, confidence)
        tables += [summary, _table(pooled)]
    lists = values.filter(pl.col("segment") == ALL).unique("impression_id")
    evaluated = int(lists["evaluated"].sum())
    return EvaluationResult(
        evaluated,
        lists.height - evaluated,
        pl.concat(tables),
        values,
        left_out,
        metrics,
    )


def impression_values(
    frame: pl.DataFrame,
    scorers: Sequence[str],
    segments: Mapping[str, pl.Expr] | None = None,
    listwise: Mapping[str, Metric] = METRICS,
    probabilities: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """Metrics of every impression, scorer and segment (`ALL` included): `EvaluationResult.values`.

    Arguments and errors are those of `evaluate`. `evaluated` is false for skipped impressions. If every impression has
    one candidate, `label`, `score` and `log_loss` replace the metrics.
    """
    require(frame, ("impression_id", "item_id", "label", *scorers), "evaluation")
    parts = []
    every = {ALL: pl.lit(True), **(segments or {})}
    if MetricSet.of(frame) == POINTWISE:
        for name, selected in every.items():
            rows = pointwise.values(frame.filter(selected), scorers, probabilities or {})
            parts.append(rows.with_columns(segment=pl.lit(name)))
        return pl.concat(parts)
    lists = Lists(frame, scorers)
    for name, selected in every.items():
        mask = frame.with_columns(selected.fill_null(False).alias("__selected"))["__selected"].to_numpy()
        for scorer in scorers:
            evaluated = (pl.col("positives") > 0) & (pl.col("positives") < pl.col("candidates"))
            marks = {"segment": pl.lit(name), "scorer": pl.lit(scorer), "evaluated": evaluated}
            measured = lists.measure(scorer, mask, listwise).with_columns(**marks)
            parts.append(measured.select(*_KEYS, *listwise))
    return pl.concat(parts)


def difference(
    values: pl.DataFrame,
    a: str,
    b: str,
    metric: str = "ndcg@10",
    *,
    seed: int = 1,
    resamples: int = 1000,
    confidence: float = 0.95,
    segment: str = ALL,
) -> Interval:
    """Mean of (`a` − `b`) and its paired interval over the evaluated impressions.

    `values` as in EvaluationResult. NaN if nothing was evaluated. Raises ModelError if a scorer is missing or the two
    were evaluated on different impressions.
    """
    rows = values.filter(pl.col("segment") == segment, pl.col("scorer").is_in([a, b]))
    if metric == POOLED_AUC:
        first, second = _same_impressions(rows, [a, b])
        return pointwise.auc_difference(first, second, seed, resamples, confidence)
    wide = _wide(rows, [a, b], [metric])
    return mean_intervals(wide[:, :1] - wide[:, 1:], seed, resamples, confidence)[0]


def mean_of(values: pl.DataFrame, scorer: str, metric: str) -> float | None:
    """A scorer's mean over all evaluated impressions, None if there are none. `values` as in EvaluationResult."""
    rows = values.filter(pl.col("segment") == ALL, pl.col("scorer") == scorer)
    mean = pointwise.auc(rows) if metric == POOLED_AUC else rows[metric].mean()
    return mean if isinstance(mean, float) else None


def calibration(probability: pl.Series, clicked: pl.Series, bins: int = 10) -> pl.DataFrame:
    """Predicted and observed click rate per bin: `bin` (from 1), `predicted`, `observed`, `count`.

    Bins have about equal counts: clicks are rare, so equal widths would leave most bins empty. Equal predictions share
    a bin.
    """
    rows = pl.DataFrame({"predicted": probability.cast(pl.Float64), "clicked": clicked.cast(pl.Float64)})
    number = (pl.col("predicted").rank("min").cast(pl.Int64) - 1) * bins // pl.len() + 1
    return (
        rows.group_by(number.cast(pl.Int32).alias("bin"))
        .agg(pl.col("predicted").mean(), observed=pl.col("clicked").mean(), count=pl.len().cast(pl.Int64))
        .sort("bin")
    )


def calibration_error(table: pl.DataFrame) -> float:
    """Expected calibration error of a `calibration` table: Σ count · |predicted − observed| / Σ count."""
    gap = (pl.col("predicted") - pl.col("observed")).abs()
    return float(table.select((gap * pl.col("count")).sum() / pl.col("count").sum()).item())


def _summary(
    values: pl.DataFrame,
    segment: str,
    scorers: Sequence[str],
    metrics: Sequence[str],
    seed: int,
    resamples: int,
    confidence: float,
) -> pl.DataFrame:
    columns = _wide(values, scorers, metrics)
    intervals = mean_intervals(columns, seed, resamples, confidence)
    names = [(scorer, metric) for metric in metrics for scorer in scorers]
    return _table(
        [
            (scorer, metric, segment, *interval, columns.shape[0])
            for (scorer, metric), interval in zip(names, intervals, strict=True)
        ]
    )


def _single_summary(
    values: pl.DataFrame, segment: str, scorers: Sequence[str], seed: int, resamples: int, confidence: float
) -> pl.DataFrame:
    """Pooled AUC of every scorer, and its log loss if it gives a probability."""
    rows: list[_Row] = []
    for scorer in scorers:
        evaluated = values.filter("evaluated", pl.col("scorer") == scorer)
        auc = pointwise.auc_interval(evaluated, seed, min(resamples, _POOLED_RESAMPLES), confidence)
        rows.append((scorer, POOLED_AUC, segment, *auc, evaluated.height))
        losses = evaluated[LOG_LOSS].drop_nulls().to_numpy()[:, None]
        loss = mean_intervals(losses, seed, resamples, confidence)[0] if losses.size else NOTHING
        rows.append((scorer, LOG_LOSS, segment, *loss, losses.size))
    return _table(rows)


def _wide(values: pl.DataFrame, scorers: Sequence[str], metrics: Sequence[str]) -> NDArray[np.float64]:
    """[impression, metric × scorer]: the evaluated impressions, sorted by id."""
    parts = _same_impressions(values, scorers)
    return np.stack([part[metric].drop_nulls().to_numpy() for metric in metrics for part in parts], axis=1)


def _same_impressions(values: pl.DataFrame, scorers: Sequence[str]) -> list[pl.DataFrame]:
    """Each scorer's rows, sorted by impression. Raises ModelError if their impressions differ."""
    parts = [values.filter(pl.col("scorer") == scorer).sort("impression_id") for scorer in scorers]
    for scorer, part in zip(scorers, parts, strict=True):
        if not part["impression_id"].equals(parts[0]["impression_id"]):
            raise ModelError(
                f"{scorer!r} was evaluated on {part.height} impressions, {scorers[0]!r} on {parts[0].height}, "
                "not the same ones: evaluate both on the same frame before comparing them"
            )
    return parts


def _pooled(
    rows: pl.DataFrame, scorer: str, segment: str, seed: int, resamples: int, confidence: float
) -> _Row:
    scored = rows.select("impression_id", "item_id", "label", score=scorer)
    mean = pooled_auc(scored)
    resampled = np.array([]) if mean is None or not resamples else resampled_auc(scored, seed, resamples)
    interval = interval_of(np.nan if mean is None else mean, resampled, confidence)
    return (scorer, POOLED_AUC, segment, *interval, scored["impression_id"].n_unique())


def _table(rows: Sequence[_Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=_TABLE, orient="row").with_columns(
        pl.col("mean", "low", "high").fill_nan(None)
    )
