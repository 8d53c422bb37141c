"""The report's sections on ranking quality, overall and by segment: tables in, HTML out."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import polars as pl

from models.evaluation.attainable import beside_random
from models.report import plots as figures
from models.report import report_plots as report_figures
from models.report.html_parts import (
    cell,
    empty,
    estimate,
    folded,
    grid,
    interval,
    meanings,
    picture,
    section,
    text,
)
from models.report.plots import METRICS, in_order, measured, metric_label, scorer
from models.report.report_data import ReportData
from models.report.report_plots import segment_label

NOT_EVALUATED = (
    "No slice has been evaluated yet. A slice is evaluated once a ranker was fitted on an earlier one."
)
_MAX_SEGMENTS = 16
"""Segments in the plot; the table has all."""
_COMPARED = (("popularity", "Popularity"), ("behaviour_only", "The same ranker without text"))


def headline(report: ReportData) -> str:
    """The quality in one sentence and the gain from text, with a card per scorer."""
    scores = _by_scorer(report)
    if "full" not in scores:
        return f'<p class="lead">{text(NOT_EVALUATED)}</p>'
    full = scores["full"]
    attainable = beside_random(full["mean"], scores["random"]["mean"] if "random" in scores else None)
    compared = {name: label for name, label in _COMPARED if name in scores}
    others = [f"{label} reaches {scores[name]['mean']:.3f}" for name, label in compared.items()]
    sentence = (
        f"On {report.evaluated:,} unseen impressions, the ranker reaches {metric_label(report.headline)} "
        f"{full['mean']:.3f} ({report.confidence:.0%} interval {interval(full)}); {attainable or 'perfect order 1'}."
    )
    if others:
        sentence += f" {others[0]}{''.join(f'; {other[0].lower()}{other[1:]}' for other in others[1:])}."
    cards = [_card("full", full, attainable or "higher is better, 1 is perfect")]
    cards += [_card(name, scores[name], _change(full["mean"], scores[name]["mean"])) for name in compared]
    return (
        f'<p class="lead">{text(sentence)} <strong>{text(_gain_of_text(report.gain, report.headline))}</strong></p>'
        f'<div class="cards">{"".join(cards)}</div>'
    )


def _by_scorer(report: ReportData) -> dict[str, dict[str, Any]]:
    return {row["scorer"]: row for row in measured(report.overall, report.headline).iter_rows(named=True)}


def _change(full: float, other: float) -> str:
    change = full / other - 1 if other else 0.0
    return f"the full ranker is {abs(change):.1%} {'better' if change >= 0 else 'worse'}"


def _gain_of_text(gain: pl.DataFrame, headline: str) -> str:
    """What text adds to the headline metric, and whether that is significant."""
    rows = measured(gain, headline)
    if not rows.height:
        return ""
    row = rows.row(0, named=True)
    change = f"{row['mean']:+.3f} ({interval(row, signed=True)})"
    if row["low"] is not None and row["low"] > 0:
        return f"Reading the texts adds {change}."
    if row["high"] is not None and row["high"] < 0:
        return f"Reading the texts costs {change}."
    return f"These impressions do not show whether reading the texts helps: {change}."


def _card(name: str, row: dict[str, Any], note: str) -> str:
    style = scorer(name)
    return (
        f'<div class="card" style="border-top-color:{style.colour}"><h3>{text(style.label)}</h3>'
        f'<p class="figure">{row["mean"]:.3f}</p><p class="range">{interval(row)}</p>'
        f'<p class="note">{text(note)}</p></div>'
    )


def over_time(report: ReportData) -> str:
    """Each scorer's quality by slice."""
    content = empty(NOT_EVALUATED)
    if report.quality.height:
        scorers = ", ".join(
            scorer(name).label for name in in_order(report.quality["scorer"].unique().to_list())
        )
        caption = (
            f"Line plot of {metric_label(report.headline)} by slice for {scorers}; the table has the figures."
        )
        content = picture(partial(figures.quality_figure, metric=report.headline), report.quality, caption)
    return section(
        "time",
        "Quality over time",
        "Prequential evaluation: versions are evaluated on each slice before they are trained on it. "
        "Shaded: the confidence interval of the mean.",
        content,
    )


def ablations(report: ReportData) -> str:
    """All scorers compared, and what the metrics and scorers mean."""
    if not report.overall.height:
        content = empty(NOT_EVALUATED)
    else:
        means = [f"{scorer(n).label} {row['mean']:.3f}" for n, row in _by_scorer(report).items()]
        caption = f"{metric_label(report.headline)} with intervals: {', '.join(means)}."
        content = picture(
            partial(figures.intervals_figure, metric=report.headline), report.overall, caption
        ) + meanings(
            (f'<i style="background:{style.colour}"></i>{text(style.label)}', style.meaning)
            for style in map(scorer, in_order(report.overall["scorer"].unique().to_list()))
        )
        content += _metrics_table(report.overall, report.gain)
    return section(
        "ablations",
        "Ablations and baselines",
        "All on the same impressions of all evaluated slices.",
        content,
    )


def _metrics_table(overall: pl.DataFrame, gain: pl.DataFrame) -> str:
    """A row per scorer and one for the gain from text, a column per metric, and what the metrics mean."""
    cells = {(row["scorer"], row["metric"]): row for row in overall.iter_rows(named=True)}
    gains = {row["metric"]: row for row in gain.iter_rows(named=True)}
    present = overall["metric"].unique().to_list()
    metrics = [metric for metric in METRICS if metric in present] + sorted(set(present) - set(METRICS))
    rows = [
        (name, scorer(name).label, [estimate(cells.get((name, metric))) for metric in metrics])
        for name in in_order(overall["scorer"].unique().to_list())
    ]
    if gains:
        rows.append(
            ("gain", "What text adds", [estimate(gains.get(metric), signed=True) for metric in metrics])
        )
    notes = meanings(
        (text(METRICS[metric][0]), METRICS[metric][1]) for metric in metrics if metric in METRICS
    )
    names = [metric_label(metric) for metric in metrics]
    content = grid("Scorer", names, rows, "Means over impressions, with confidence intervals below.")
    return content + notes


def by_segment(report: ReportData) -> str:
    """The full ranker and the one without text by segment, largest differences first."""
    headline = pl.col("metric") == report.headline
    rows = report.segments.filter(headline) if report.segments.height else report.segments
    intro = (
        f"{metric_label(report.headline)} for groups of users and items: the full ranker beside the same one without "
        "text, largest differences first."
    )
    if not rows.height:
        reason = f"No segment has the minimum of {report.min_impressions:,} evaluated impressions."
        return section("segments", "Segments", intro, empty(reason if report.evaluated else NOT_EVALUATED))
    names = _by_difference(rows, report.segment_gain)
    plotted = names[:_MAX_SEGMENTS]
    dots = rows.filter(pl.col("scorer").is_in(["full", "behaviour_only"]), pl.col("segment").is_in(plotted))
    dots = dots.sort(pl.col("segment").replace_strict(plotted, range(len(plotted))), maintain_order=True)
    caption = f"Dot plot of {metric_label(report.headline)} with and without text for {', '.join(plotted)}."
    return section(
        "segments",
        "Segments",
        intro,
        _significant(names, report.segment_gain, report.confidence),
        picture(partial(report_figures.segments_figure, metric=report.headline), dots, caption),
        folded(
            f"Figures of all {len(names)} segments",
            _segments(rows, report.segment_gain, names, report.headline),
        ),
    )


def _by_difference(rows: pl.DataFrame, gain: pl.DataFrame) -> list[str]:
    """Segments by the absolute gain from text; those without one last."""
    sizes = {row["segment"]: abs(row["mean"] or 0.0) for row in gain.iter_rows(named=True)}
    names = rows["segment"].unique(maintain_order=True).to_list()
    return sorted(names, key=lambda name: -sizes.get(name, -1.0))


def _significant(names: Sequence[str], gain: pl.DataFrame, confidence: float) -> str:
    """Where text significantly helps or costs, in a sentence."""
    bounded = [row for row in gain.iter_rows(named=True) if row["low"] is not None]
    parts = []
    for words, significant in (
        ("Text helps with", [row for row in bounded if row["low"] > 0]),
        ("Text costs with", [row for row in bounded if row["high"] < 0]),
    ):
        first = sorted(significant, key=lambda row: names.index(row["segment"]))[:3]
        listed = ", ".join(f"{segment_label(row['segment'])} ({row['mean']:+.3f})" for row in first)
        more = f" and {len(significant) - len(first)} more" if len(significant) > len(first) else ""
        parts += [f"{words} {listed}{more}."] if first else []
    if parts:
        chance = len(bounded) * (1 - confidence)
        parts.append(
            f"By chance alone, about {chance:.1f} of {len(bounded)} such intervals would exclude zero."
        )
    none = f"In none of the {len(names)} segments does the confidence interval of the gain exclude zero."
    return f'<p class="summary">{text(" ".join(parts) or none)}</p>'


def _segments(rows: pl.DataFrame, gain: pl.DataFrame, names: Sequence[str], headline: str) -> str:
    cells = {(row["segment"], row["scorer"]): row for row in rows.iter_rows(named=True)}
    gains = {row["segment"]: row for row in gain.iter_rows(named=True)}
    sizes = dict(rows.select("segment", "impressions").iter_rows())
    scorers = [
        name for name in ("full", "behaviour_only", "text_only", "popularity") if name in rows["scorer"]
    ]
    body = [
        (
            segment,
            segment_label(segment),
            [
                cell(sizes[segment]),
                *(estimate(cells.get((segment, name))) for name in scorers),
                estimate(gains.get(segment), signed=True),
            ],
        )
        for segment in names
    ]
    columns = ["Impressions", *(scorer(name).label for name in scorers), "What text adds"]
    return grid(
        "Segment", columns, body, f"{metric_label(headline)} by segment, with confidence intervals below."
    )
