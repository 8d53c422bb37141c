"""The tables that the report page is made from, one small one a section."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl


@dataclass(frozen=True)
class RankedList:
    """One user's ranked list."""

    user: str
    past: Sequence[str]
    """Titles clicked before, newest first."""
    rows: pl.DataFrame
    """`rank, title, rank_score, click_probability, reasons`."""


def _none() -> pl.DataFrame:
    return pl.DataFrame()


@dataclass(frozen=True)
class ReportData:
    """What the page shows. Tables may be empty; `mean`, `low` and `high` are a mean and its confidence interval."""

    project: str
    generated_at: datetime
    slices: tuple[str, str]
    """First and last slice."""
    confidence: float = 0.95
    """Level of the confidence intervals."""
    headline: str = "ndcg@10"
    """The metric of the summary and the plots."""
    evaluated: int = 0
    """Impressions evaluated."""
    overall: pl.DataFrame = field(default_factory=_none)
    """`scorer, metric, mean, low, high` over all evaluated impressions."""
    gain: pl.DataFrame = field(default_factory=_none)
    """`metric, mean, low, high`: full ranker minus the ranker without text, paired by impression."""
    quality: pl.DataFrame = field(default_factory=_none)
    """`slice, scorer, metric, mean, low, high`."""
    segments: pl.DataFrame = field(default_factory=_none)
    """`segment, scorer, metric, mean, low, high, impressions`."""
    segment_gain: pl.DataFrame = field(default_factory=_none)
    """`segment, mean, low, high`: the same difference in the headline metric, by segment."""
    min_impressions: int = 0
    """Segments with fewer evaluated impressions are left out."""
    importance: pl.DataFrame = field(default_factory=_none)
    """`feature, gain, family`."""
    calibration: pl.DataFrame = field(default_factory=_none)
    """`predictor, predicted, observed, count`: one row per predictor and bin."""
    calibration_errors: pl.DataFrame = field(default_factory=_none)
    """`predictor, error, predicted, observed`: calibration error, mean prediction and click rate."""
    exposure: pl.DataFrame = field(default_factory=_none)
    """`attribute, value, share_of_candidates, share_of_positions, share_of_clicks`, full ranker, most common first."""
    attributes: Sequence[str] = ()
    """Declared categorical attributes."""
    beyond: pl.DataFrame = field(default_factory=_none)
    """`scorer, coverage, gini, novelty, diversity, popularity_lift`; other columns are ignored."""
    topics: pl.DataFrame = field(default_factory=_none)
    """`slice, attribute, value, figure, shown, trials, mean, expected, shifted, since, typical` (titles)."""
    drift: pl.DataFrame = field(default_factory=_none)
    """`column, meaning, psi`: drift of each ranker input, the last slice against the window before it."""
    volume: pl.DataFrame = field(default_factory=_none)
    """`slice, items, impressions, interactions, rejects, candidates, click_rate`."""
    rejects: pl.DataFrame = field(default_factory=_none)
    """`reason, rows, first`: rejected rows by reason, and the file and line of the first."""
    lists: Sequence[RankedList] = ()
    versions: pl.DataFrame = field(default_factory=_none)
    """One row per version, shown as is; for example `slice, ranker, interest, alias, decision`."""
