"""Judgement: means over impressions with bootstrap intervals, every scorer on the same impressions.

Intervals are percentile intervals of the bootstrap over impressions (Efron 1979). One draw of impressions
serves all scorers and metrics, so differences between scorers are paired. Impressions without a positive, or
with nothing else, are counted as skipped and left out of the means of the per-impression metrics; pooled AUC
uses every row, and has an interval over all rows only: in a segment it would cost more than it tells.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import ModelError
from models.metrics import METRICS, Lists, pooled_auc
from models.ranking import require

ALL = "all"
"""Name of the segment that holds every row."""
POOLED = "pooled_auc"

_POOLED_RESAMPLES = 200
_CELLS = 4_000_000
"""Most numbers a resampling step holds at once (32 MB)."""
_VALUES = ("segment", "scorer", "impression_id", "candidates", "positives", *METRICS)
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


class Interval(NamedTuple):
    """A mean and the ends of its interval; NaN where nothing was judged."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Judgement:
    """How good each scorer is."""

    impressions: int
    """Impressions judged: at least one positive and at least one other candidate."""
    skipped: int
    """Impressions without a positive, or with nothing but positives."""
    table: pl.DataFrame
    """`scorer, metric, segment, mean, low, high, impressions`; null means where nothing could be judged."""
    values: pl.DataFrame
    """`segment, scorer, impression_id, candidates, positives`, the metrics; skipped impressions too."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Segments with too few judged impressions to be told of, and how many they have."""

    def as_json(self, segment: str = ALL) -> dict[str, Any]:
        """`{"impressions": n, "scorers": {scorer: {metric: {"mean", "low", "high"}}}}` of one segment."""
        scorers: dict[str, dict[str, dict[str, float | None]]] = {}
        for row in self.table.filter(pl.col("segment") == segment).iter_rows(named=True):
            interval = {end: row[end] for end in ("mean", "low", "high")}
            scorers.setdefault(row["scorer"], {})[row["metric"]] = interval
        return {"impressions": self.impressions, "scorers": scorers}


def judge(
    frame: pl.DataFrame,
    scorers: Sequence[str],
    segments: Mapping[str, pl.Expr] | None = None,
    *,
    few: int = 0,
    seed: int = 1,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Judgement:
    """Judge `scorers`, each a column of `frame`, on the same impressions.

    `frame`: `impression_id`, `item_id`, `label` and the score columns. A segment is a boolean expression over
    rows. Only its rows are kept: one that is constant in an impression (new users) chooses impressions; one
    that differs between items (new items) restricts each list to those candidates, ranked among themselves.
    A segment with fewer than `few` judged impressions is left out. Raises TableError for missing columns,
    ModelError for scores or labels that are not numbers.
    """
    values = impression_values(frame, scorers, segments)
    counts = _judged(values)
    left_out = {name: counts.get(name, 0) for name in segments or {} if counts.get(name, 0) < few}
    values = values.filter(~pl.col("segment").is_in([*left_out]))
    tables = []
    for name, chosen in {ALL: pl.lit(True), **(segments or {})}.items():
        if name in left_out:
            continue
        found = values.filter(pl.col("segment") == name)
        rows = frame.filter(chosen)
        draws = min(resamples, _POOLED_RESAMPLES) if name == ALL else 0
        pooled = [_pooled(rows, scorer, name, seed, draws, confidence) for scorer in scorers]
        tables += [_summary(found, name, scorers, seed, resamples, confidence), _table(pooled)]
    return _judgement(pl.concat(tables), values, left_out)


def impression_values(
    frame: pl.DataFrame, scorers: Sequence[str], segments: Mapping[str, pl.Expr] | None = None
) -> pl.DataFrame:
    """Every impression under every scorer, in all and in each segment: `Judgement.values`, without means.

    Takes and raises what `judge` does.
    """
    require(frame, ("impression_id", "item_id", "label", *scorers), "judgement")
    lists = Lists(frame, scorers)
    parts = []
    for name, chosen in {ALL: pl.lit(True), **(segments or {})}.items():
        mask = frame.with_columns(chosen.fill_null(False).alias("__chosen"))["__chosen"].to_numpy()
        for scorer in scorers:
            mark = {"segment": pl.lit(name), "scorer": pl.lit(scorer)}
            parts.append(lists.judge(scorer, mask).with_columns(**mark).select(_VALUES))
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
    """Mean of (`a` − `b`) and its paired interval over the impressions that both were judged on.

    `values` as in Judgement. NaN where nothing was judged. Raises ModelError if a scorer is absent or the two
    were judged on different impressions.
    """
    wide = _wide(
        values.filter(pl.col("segment") == segment, pl.col("scorer").is_in([a, b])), [a, b], [metric]
    )
    return _intervals(wide[:, :1] - wide[:, 1:], seed, resamples, confidence)[0]


def calibration(probability: pl.Series, clicked: pl.Series, bins: int = 10) -> pl.DataFrame:
    """Predicted against observed click rate: `bin` (from 1), `predicted`, `observed`, `count`.

    Bins hold about equally many rows, because clicks are rare and equal widths would leave most bins empty;
    equal predictions share a bin.
    """
    rows = pl.DataFrame({"predicted": probability.cast(pl.Float64), "clicked": clicked.cast(pl.Float64)})
    place = (pl.col("predicted").rank("min").cast(pl.Int64) - 1) * bins // pl.len() + 1
    return (
        rows.group_by(place.cast(pl.Int32).alias("bin"))
        .agg(pl.col("predicted").mean(), observed=pl.col("clicked").mean(), count=pl.len().cast(pl.Int64))
        .sort("bin")
    )


def calibration_error(table: pl.DataFrame) -> float:
    """Expected calibration error of a `calibration` table: Σ count · |predicted − observed| / Σ count."""
    gap = (pl.col("predicted") - pl.col("observed")).abs()
    return float(table.select((gap * pl.col("count")).sum() / pl.col("count").sum()).item())


def _judgement(table: pl.DataFrame, values: pl.DataFrame, left_out: Mapping[str, int]) -> Judgement:
    lists = values.filter(pl.col("segment") == ALL).unique("impression_id")
    judged = int(lists.get_column(METRICS[0]).is_not_null().sum())
    return Judgement(judged, lists.height - judged, table, values, left_out)


def _judged(values: pl.DataFrame) -> dict[str, int]:
    """Segment → impressions judged in it."""
    counted = values.filter(pl.col(METRICS[0]).is_not_null()).group_by("segment")
    return dict(counted.agg(pl.col("impression_id").n_unique()).iter_rows())


def _summary(
    values: pl.DataFrame, segment: str, scorers: Sequence[str], seed: int, resamples: int, confidence: float
) -> pl.DataFrame:
    judged = _wide(values, scorers, METRICS)
    intervals = _intervals(judged, seed, resamples, confidence)
    names = [(scorer, metric) for metric in METRICS for scorer in scorers]
    return _table(
        [
            (scorer, metric, segment, *interval, judged.shape[0])
            for (scorer, metric), interval in zip(names, intervals, strict=True)
        ]
    )


def _wide(values: pl.DataFrame, scorers: Sequence[str], metrics: Sequence[str]) -> NDArray[np.float64]:
    """One row per judged impression, sorted by id, one column per metric and, within it, per scorer."""
    parts = [values.filter(pl.col("scorer") == scorer).sort("impression_id") for scorer in scorers]
    for scorer, part in zip(scorers, parts, strict=True):
        if not part["impression_id"].equals(parts[0]["impression_id"]):
            raise ModelError(
                f"{scorer!r} was judged on {part.height} impressions, {scorers[0]!r} on {parts[0].height}, "
                "not the same ones: judge both on one frame before they are compared"
            )
    return np.stack([part[metric].drop_nulls().to_numpy() for metric in metrics for part in parts], axis=1)


def _intervals(columns: NDArray[np.float64], seed: int, resamples: int, confidence: float) -> list[Interval]:
    """Mean and percentile interval of each column; all columns see the same draws."""
    if not columns.shape[0]:
        return [Interval(np.nan, np.nan, np.nan)] * columns.shape[1]
    means = np.concatenate(
        [weights @ columns / columns.shape[0] for weights in _draws(columns.shape[0], seed, resamples)]
    )
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return [Interval(*map(float, ends)) for ends in zip(columns.mean(axis=0), low, high, strict=True)]


def _pooled(
    rows: pl.DataFrame, scorer: str, segment: str, seed: int, resamples: int, confidence: float
) -> _Row:
    scored = rows.select("impression_id", "item_id", "label", score=scorer)
    interval = _pooled_interval(scored, seed, resamples, confidence)
    return (scorer, POOLED, segment, *interval, scored["impression_id"].n_unique())


def _pooled_interval(scored: pl.DataFrame, seed: int, resamples: int, confidence: float) -> Interval:
    """Pooled AUC, its interval from whole impressions drawn again: rows of a list are not independent."""
    mean = pooled_auc(scored)
    if mean is None or not resamples:
        return Interval(np.nan if mean is None else mean, np.nan, np.nan)
    rows = scored.select(
        pl.col("impression_id").rank("dense").cast(pl.Int64) - 1, pl.col("label") > 0, "score"
    ).sort("score", "impression_id")
    impression, positive = rows["impression_id"].to_numpy(), rows["label"].to_numpy()
    score = rows["score"].cast(pl.Float64).to_numpy()
    below = np.searchsorted(score[~positive], score[positive], side="left")
    up_to = np.searchsorted(score[~positive], score[positive], side="right")
    negatives, positives = impression[~positive], impression[positive]
    others = np.zeros(negatives.size + 1)
    aucs: list[float] = []
    for weights in _draws(int(impression.max()) + 1, seed, resamples):
        for weight in weights:
            np.cumsum(weight[negatives], out=others[1:])
            drawn = weight[positives]
            # Not `@`: the threads of a linear algebra library wait for each other by spinning.
            won = (drawn * (others[below] + others[up_to])).sum() / 2
            pairs = drawn.sum() * others[-1]
            if pairs:
                aucs.append(won / pairs)
    if not aucs:
        return Interval(mean, np.nan, np.nan)
    low, high = np.quantile(aucs, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean, float(low), float(high))


def _draws(size: int, seed: int, resamples: int) -> Iterator[NDArray[np.float64]]:
    """How often each of `size` impressions is drawn: blocks of rows, `resamples` rows in all."""
    random = np.random.default_rng(seed)
    block = max(1, _CELLS // size)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = random.integers(0, size, (rows, size)) + np.arange(rows)[:, None] * size
        yield np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)


def _table(rows: Sequence[_Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=_TABLE, orient="row").with_columns(
        pl.col("mean", "low", "high").fill_nan(None)
    )
