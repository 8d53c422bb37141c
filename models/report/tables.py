"""What the report page is told: one small table a section."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl


@dataclass(frozen=True)
class RankedList:
    """One user's list, to be read by a person."""

    user: str
    past: Sequence[str]
    """Titles taken before, newest first."""
    rows: pl.DataFrame
    """`rank, title, rank_score, click_probability, reasons`."""


def _none() -> pl.DataFrame:
    return pl.DataFrame()


@dataclass(frozen=True)
class ReportData:
    """What the page shows. Tables may be empty; `mean`, `low` and `high` are a mean and its interval."""

    project: str
    generated_at: datetime
    slices: tuple[str, str]
    """First and last slice."""
    confidence: float = 0.95
    """Of the intervals."""
    headline: str = "ndcg@10"
    """The metric that the page's first sentence and its plots are about."""
    evaluated: int = 0
    """Impressions evaluated."""
    overall: pl.DataFrame = field(default_factory=_none)
    """`scorer, metric, mean, low, high` over all evaluated impressions."""
    gain: pl.DataFrame = field(default_factory=_none)
    """`metric, mean, low, high`: what text adds to behaviour on the same lists, paired."""
    quality: pl.DataFrame = field(default_factory=_none)
    """`slice, scorer, metric, mean, low, high`."""
    segments: pl.DataFrame = field(default_factory=_none)
    """`segment, scorer, metric, mean, low, high, impressions`."""
    segment_gain: pl.DataFrame = field(default_factory=_none)
    """`segment, mean, low, high`: what text adds in each segment, in the headline metric."""
    few: int = 0
    """Lists below which a segment is not looked at."""
    importance: pl.DataFrame = field(default_factory=_none)
    """`feature, gain, family`."""
    calibration: pl.DataFrame = field(default_factory=_none)
    """`predictor, predicted, observed, count`, one row a bin of a predictor."""
    calibration_errors: pl.DataFrame = field(default_factory=_none)
    """`predictor, error, predicted, observed`: mean distance, mean prediction and click rate."""
    exposure: pl.DataFrame = field(default_factory=_none)
    """`attribute, value, share_of_candidates, share_of_positions, share_of_clicks` of the full ranker, the commonest values first."""
    attributes: Sequence[str] = ()
    """Declared categorical attributes."""
    beyond: pl.DataFrame = field(default_factory=_none)
    """`scorer, coverage, gini, novelty, diversity, popularity_lift`; others are not shown."""
    drift: pl.DataFrame = field(default_factory=_none)
    """`column, meaning, psi` of every input of the ranker: the last slice against the window before it."""
    volume: pl.DataFrame = field(default_factory=_none)
    """`slice, items, impressions, interactions, rejects, candidates, click_rate`."""
    rejects: pl.DataFrame = field(default_factory=_none)
    """`reason, rows, first`: refused rows by reason, and where the first one stands."""
    lists: Sequence[RankedList] = ()
    versions: pl.DataFrame = field(default_factory=_none)
    """One row a version, shown as it is: for example `slice, ranker, interest, alias, took_over, decision`."""
