"""The HTML page a person looks at: one file, nothing fetched, no scripts.

Every figure on it comes from the tables in `ReportData`; an empty table leaves a sentence that says so.
"""

import base64
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from models import figures
from models.figures import METRICS, in_order, metric_label, scorer
from models.report_parts import EMPTY, STYLE, cell, grid, table, text

HEADLINE = "ndcg@10"
"""The metric that the page's first sentence and its plots are about."""

_BESIDE = (("popularity", "for popularity"), ("behaviour_only", "without text"))
_WIDE, _HALF, _NARROW = 7.6, 4.4, 3.7
"""Inches a plot is drawn for a full column, half of one, and a phone, so that its letters keep their size."""


@dataclass(frozen=True)
class RankedList:
    """One user's list, to be read by a person."""

    user: str
    past: Sequence[str]
    """Titles taken before, newest first."""
    rows: pl.DataFrame
    """`rank, title, rank_score, interest_score, reasons`."""


@dataclass(frozen=True)
class ReportData:
    """What the page shows. Tables may be empty; `mean`, `low` and `high` are a mean and its interval."""

    project: str
    generated_at: datetime
    slices: tuple[str, str]
    """First and last slice."""
    overall: pl.DataFrame = field(default_factory=pl.DataFrame)
    """`scorer, metric, mean, low, high` over all judged impressions."""
    quality: pl.DataFrame = field(default_factory=pl.DataFrame)
    """`slice, scorer, metric, mean, low, high`."""
    segments: pl.DataFrame = field(default_factory=pl.DataFrame)
    """`segment, scorer, metric, mean, low, high`, and `impressions`."""
    importance: pl.DataFrame = field(default_factory=pl.DataFrame)
    """`feature, gain, family`."""
    calibration: pl.DataFrame = field(default_factory=pl.DataFrame)
    """`bin, predicted, observed, count`."""
    lists: Sequence[RankedList] = ()
    versions: pl.DataFrame = field(default_factory=pl.DataFrame)
    """One row a version, shown as it is: for example `slice, ranker, interest, alias, decision`."""
    inputs: pl.DataFrame = field(default_factory=pl.DataFrame)
    """One row a slice, shown as it is: for example `slice, kept, rejected`."""


def write(path: Path, report: ReportData) -> None:
    """Write the page; a reader sees the old page or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(page(report), encoding="utf-8")
    os.replace(unfinished, path)


def page(report: ReportData) -> str:
    """The page as text."""
    first, last = report.slices
    when = f"{report.generated_at:%d %B %Y, %H:%M} UTC"
    sections = (
        _section(
            "How good, over time",
            "Each slice is judged by versions that had not seen it: first the test, then the training. "
            "Shaded: the interval that the mean lies in.",
            _picture(
                figures.quality_figure, report.quality, f"{metric_label(HEADLINE)} of each scorer by slice"
            ),
        ),
        _section(
            "Beside its ablations and baselines",
            "All on the same lists, over all judged slices.",
            _picture(figures.intervals_figure, report.overall, f"{metric_label(HEADLINE)} with intervals"),
            _scorers(report.overall),
            _measures(report.overall),
        ),
        _section(
            "For whom",
            f"{metric_label(HEADLINE)} for parts of the audience and of the stock.",
            _segments(report.segments),
        ),
        '<div class="pair">',
        _section(
            "What the ranker goes by",
            "How much of what it learned came from each feature.",
            _picture(figures.importance_figure, report.importance, "Features by share of gain", _HALF),
        ),
        _section(
            "Can its probabilities be believed",
            "The interest score as a click rate: where a dot lies on the line, what was predicted came true.",
            _picture(
                figures.calibration_figure, report.calibration, "Predicted against observed click rate", _HALF
            ),
        ),
        "</div>",
        _section(
            "Lists it would show",
            "A few people, what they took before, and what they would see next.",
            _lists(report.lists),
        ),
        _section("Versions", "What was registered, and what was decided about it.", table(report.versions)),
        _section(
            "What came in", "Rows kept and rows refused; none is dropped in silence.", table(report.inputs)
        ),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(report.project)}: ranking report</title><style>{STYLE}</style></head><body><main>"
        f'<header><p class="eyebrow">MomentRank report</p><h1>{text(report.project)}</h1>'
        f'<p class="when">Slices {text(first)} to {text(last)} · made {when}</p>'
        f"{_headline(report.overall)}</header>{''.join(sections)}"
        "<footer>Made by MomentRank. Intervals are bootstrap intervals over impressions.</footer>"
        "</main></body></html>\n"
    )


def _headline(overall: pl.DataFrame) -> str:
    """The first sentence, and a card for each scorer that it names."""
    rows = (
        overall.filter(pl.col("metric") == HEADLINE, pl.col("mean").is_not_null())
        if overall.height
        else overall
    )
    found = {row["scorer"]: row for row in rows.iter_rows(named=True)}
    if "full" not in found:
        return '<p class="lead">Nothing yet: no slice has been judged.</p>'
    full = found["full"]
    named = [(name, words) for name, words in _BESIDE if name in found]
    beside = [f"{found[name]['mean']:.3f} {words}" for name, words in named]
    sentence = f"The full ranker reaches {metric_label(HEADLINE)} {full['mean']:.3f} ({_between(full)})"
    sentence += f", beside {' and '.join(beside)}." if beside else "."
    cards = [_card("full", full, "higher is better, 1 is perfect")]
    for name, _ in named:
        gain = full["mean"] / found[name]["mean"] - 1 if found[name]["mean"] else 0.0
        cards.append(
            _card(
                name, found[name], f"the full ranker is {abs(gain):.1%} {'above' if gain >= 0 else 'below'}"
            )
        )
    return f'<p class="lead">{text(sentence)}</p><div class="cards">{"".join(cards)}</div>'


def _card(name: str, row: dict[str, Any], note: str) -> str:
    shown = scorer(name)
    return (
        f'<div class="card" style="border-top-color:{shown.colour}"><h3>{text(shown.label)}</h3>'
        f'<p class="figure">{row["mean"]:.3f}</p><p class="range">{_between(row)}</p>'
        f'<p class="note">{text(note)}</p></div>'
    )


def _scorers(overall: pl.DataFrame) -> str:
    """What each scorer's name means."""
    names = in_order(overall["scorer"].unique().to_list()) if overall.height else []
    entries = "".join(
        f'<div><dt><i style="background:{scorer(name).colour}"></i>{text(scorer(name).label)}</dt>'
        f"<dd>{text(scorer(name).meaning)}</dd></div>"
        for name in names
    )
    return f'<dl class="meanings">{entries}</dl>' if names else ""


def _measures(overall: pl.DataFrame) -> str:
    """A row for each scorer, a column for each metric, and what the metrics mean."""
    if not overall.height:
        return ""
    cells = {(row["scorer"], row["metric"]): row for row in overall.iter_rows(named=True)}
    present = overall["metric"].unique().to_list()
    metrics = [metric for metric in METRICS if metric in present] + sorted(set(present) - set(METRICS))
    notes = "".join(
        f"<div><dt>{text(METRICS[metric][0])}</dt><dd>{text(METRICS[metric][1])}</dd></div>"
        for metric in metrics
        if metric in METRICS
    )
    rows = [
        (name, scorer(name).label, [_measure(cells.get((name, metric))) for metric in metrics])
        for name in in_order(overall["scorer"].unique().to_list())
    ]
    return f'{grid([metric_label(metric) for metric in metrics], rows)}<dl class="meanings">{notes}</dl>'


def _segments(segments: pl.DataFrame) -> str:
    """A row for each segment, a column for each scorer."""
    rows = segments.filter(pl.col("metric") == HEADLINE) if segments.height else segments
    if not rows.height:
        return EMPTY
    cells = {(row["segment"], row["scorer"]): row for row in rows.iter_rows(named=True)}
    names = in_order(rows["scorer"].unique().to_list())
    sizes = dict(rows.select("segment", "impressions").iter_rows()) if "impressions" in rows.columns else {}
    body = [
        (
            segment,
            segment.replace("_", " "),
            [cell(sizes.get(segment)), *(_measure(cells.get((segment, name))) for name in names)],
        )
        for segment in rows["segment"].unique(maintain_order=True)
    ]
    return grid(["Lists judged", *(scorer(name).label for name in names)], body)


def _lists(lists: Sequence[RankedList]) -> str:
    return f'<div class="lists">{"".join(map(_ranked_list, lists))}</div>' if lists else EMPTY


def _ranked_list(one: RankedList) -> str:
    entries = "".join(
        f'<li><span class="rank">{cell(row["rank"])}</span><span class="title">{text(row["title"])}</span>'
        f'<span class="score">{cell(row["rank_score"])}</span>'
        f'<span class="reasons">{_reasons(row)}</span></li>'
        for row in one.rows.iter_rows(named=True)
    )
    past = f"Took before: {' · '.join(map(text, one.past))}" if one.past else "Took nothing yet"
    return (
        f'<article class="list"><h3>{text(one.user)}</h3><p class="past">{past}</p>'
        f"<ol>{entries}</ol></article>"
    )


def _reasons(row: dict[str, Any]) -> str:
    interest = row.get("interest_score")
    parts = [text(row["reasons"] or ""), "" if interest is None else f"interest {cell(interest)}"]
    return " · ".join(part for part in parts if part)


def _picture(draw: Callable[..., bytes], rows: pl.DataFrame, description: str, wide: float = _WIDE) -> str:
    """A plot in two widths, of which the browser shows the one that fits."""
    if not rows.height:
        return EMPTY
    full, phone = (base64.b64encode(draw(rows, width=width)).decode() for width in (wide, _NARROW))
    return (
        f'<picture><source media="(max-width: 600px)" srcset="data:image/png;base64,{phone}">'
        f'<img src="data:image/png;base64,{full}" alt="{text(description)}"></picture>'
    )


def _section(title: str, intro: str, *parts: str) -> str:
    return f'<section><h2>{text(title)}</h2><p class="intro">{text(intro)}</p>{"".join(parts)}</section>'


def _measure(row: dict[str, Any] | None) -> str:
    if row is None or row["mean"] is None:
        return "–"
    return f"{row['mean']:.3f}<small>{_between(row)}</small>"


def _between(row: dict[str, Any]) -> str:
    return f"{row['low']:.3f} to {row['high']:.3f}" if row["low"] is not None else "no interval"
