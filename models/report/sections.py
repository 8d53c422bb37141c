"""The report's sections about how good a ranker is and for whom: tables in, HTML out."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import polars as pl

from models.evaluation.attainable import beside_random
from models.report import plots as figures
from models.report import report_plots as report_figures
from models.report.parts import between, cell, empty, folded, grid, measure, picture, section, text
from models.report.plots import METRICS, in_order, metric_label, scorer
from models.report.report_plots import segment_label
from models.report.tables import ReportData

NOT_EVALUATED = (
    "No slice has been evaluated yet: one is, as soon as a ranker was fitted on the slice before it."
)
_DRAWN = 16
"""Segments that the plot holds; the table holds all."""
_BESIDE = (("popularity", "Popularity"), ("behaviour_only", "The same ranker without text"))


def headline(report: ReportData) -> str:
    """How good it is in one sentence, and what text adds; a card for each scorer named."""
    found = _by_scorer(report)
    if "full" not in found:
        return f'<p class="lead">{text(NOT_EVALUATED)}</p>'
    full = found["full"]
    stands = beside_random(full["mean"], found["random"]["mean"] if "random" in found else None)
    named = [name for name, _ in _BESIDE if name in found]
    beside = [f"{words} reaches {found[name]['mean']:.3f}" for name, words in _BESIDE if name in found]
    sentence = (
        f"On {report.evaluated:,} impressions that it had not seen, the ranker reaches {metric_label(report.headline)} "
        f"{full['mean']:.3f} ({report.confidence:.0%} interval {between(full)}); {stands or 'perfect order 1'}."
    )
    sentence += (
        f" {beside[0]}{''.join(f'; {words[0].lower()}{words[1:]}' for words in beside[1:])}."
        if beside
        else ""
    )
    cards = [_card("full", full, stands or "higher is better, 1 is perfect")]
    cards += [_card(name, found[name], _above(full["mean"], found[name]["mean"])) for name in named]
    return (
        f'<p class="lead">{text(sentence)} <strong>{text(_text_adds(report.gain, report.headline))}</strong></p>'
        f'<div class="cards">{"".join(cards)}</div>'
    )


def _by_scorer(report: ReportData) -> dict[str, dict[str, Any]]:
    if not report.overall.height:
        return {}
    rows = report.overall.filter(pl.col("metric") == report.headline, pl.col("mean").is_not_null())
    return {row["scorer"]: row for row in rows.iter_rows(named=True)}


def _above(full: float, other: float) -> str:
    change = full / other - 1 if other else 0.0
    return f"the full ranker is {abs(change):.1%} {'above' if change >= 0 else 'below'}"


def _text_adds(gain: pl.DataFrame, headline: str) -> str:
    """What reading texts is worth, as far as it can be told."""
    rows = gain.filter(pl.col("metric") == headline, pl.col("mean").is_not_null()) if gain.height else gain
    if not rows.height:
        return ""
    row = rows.row(0, named=True)
    told = f"{row['mean']:+.3f} ({between(row, signed=True)})"
    if row["low"] is not None and row["low"] > 0:
        return f"Reading the texts adds {told}."
    if row["high"] is not None and row["high"] < 0:
        return f"Reading the texts costs {told}."
    return f"Whether reading the texts helps cannot be told from these lists: {told}."


def _card(name: str, row: dict[str, Any], note: str) -> str:
    shown = scorer(name)
    return (
        f'<div class="card" style="border-top-color:{shown.colour}"><h3>{text(shown.label)}</h3>'
        f'<p class="figure">{row["mean"]:.3f}</p><p class="range">{between(row)}</p>'
        f'<p class="note">{text(note)}</p></div>'
    )


def over_time(report: ReportData) -> str:
    """Each scorer's quality slice by slice."""
    shown = empty(NOT_EVALUATED)
    if report.quality.height:
        scorers = ", ".join(
            scorer(name).label for name in in_order(report.quality["scorer"].unique().to_list())
        )
        told = (
            f"Line plot of {metric_label(report.headline)} by slice for {scorers}; the table has the figures."
        )
        shown = picture(partial(figures.quality_figure, metric=report.headline), report.quality, told)
    return section(
        "time",
        "How good, over time",
        "Each slice is evaluated by versions that had not seen it: first the test, then the training. "
        "Shaded: the interval that the mean lies in.",
        shown,
    )


def ablations(report: ReportData) -> str:
    """Every scorer beside the others, and what the metrics and scorers mean."""
    if not report.overall.height:
        shown = empty(NOT_EVALUATED)
    else:
        best = [f"{scorer(n).label} {row['mean']:.3f}" for n, row in _by_scorer(report).items()]
        told = f"{metric_label(report.headline)} with intervals: {', '.join(best)}."
        shown = picture(
            partial(figures.intervals_figure, metric=report.headline), report.overall, told
        ) + _scorers(report.overall)
        shown += _measures(report.overall, report.gain)
    return section(
        "ablations",
        "Beside its ablations and baselines",
        "All on the same lists, over all evaluated slices.",
        shown,
    )


def _scorers(overall: pl.DataFrame) -> str:
    """What each scorer's name means."""
    entries = "".join(
        f'<div><dt><i style="background:{scorer(name).colour}"></i>{text(scorer(name).label)}</dt>'
        f"<dd>{text(scorer(name).meaning)}</dd></div>"
        for name in in_order(overall["scorer"].unique().to_list())
    )
    return f'<dl class="meanings">{entries}</dl>'


def _measures(overall: pl.DataFrame, gain: pl.DataFrame) -> str:
    """A row for each scorer and one for what text adds, a column for each metric, and what the metrics mean."""
    cells = {(row["scorer"], row["metric"]): row for row in overall.iter_rows(named=True)}
    added = {row["metric"]: row for row in gain.iter_rows(named=True)}
    present = overall["metric"].unique().to_list()
    metrics = [metric for metric in METRICS if metric in present] + sorted(set(present) - set(METRICS))
    rows = [
        (name, scorer(name).label, [measure(cells.get((name, metric))) for metric in metrics])
        for name in in_order(overall["scorer"].unique().to_list())
    ]
    if added:
        rows.append(
            ("gain", "What text adds", [measure(added.get(metric), signed=True) for metric in metrics])
        )
    notes = "".join(
        f"<div><dt>{text(METRICS[metric][0])}</dt><dd>{text(METRICS[metric][1])}</dd></div>"
        for metric in metrics
        if metric in METRICS
    )
    names = [metric_label(metric) for metric in metrics]
    shown = grid("Scorer", names, rows, "Means over lists, with their intervals below.")
    return f'{shown}<dl class="meanings">{notes}</dl>'


def for_whom(report: ReportData) -> str:
    """The full ranker and the one without text in each segment, the greatest differences first."""
    headline = pl.col("metric") == report.headline
    rows = report.segments.filter(headline) if report.segments.height else report.segments
    intro = (
        f"{metric_label(report.headline)} for parts of the audience and of the stock: the full ranker beside the "
        "same one without text, the greatest differences first."
    )
    if not rows.height:
        why = f"No segment has {report.few:,} evaluated lists, the fewest that are looked at."
        return section("segments", "For whom", intro, empty(why if report.evaluated else NOT_EVALUATED))
    names = _by_difference(rows, report.segment_gain)
    drawn = names[:_DRAWN]
    places = pl.DataFrame({"segment": drawn, "place": range(len(drawn))})
    dots = (
        rows.filter(pl.col("scorer").is_in(["full", "behaviour_only"]))
        .join(places, on="segment")
        .sort("place")
    )
    told = f"Dot plot of {metric_label(report.headline)} with and without text for {', '.join(drawn)}; figures below."
    return section(
        "segments",
        "For whom",
        intro,
        _greatest(names, report.segment_gain, report.confidence),
        picture(partial(report_figures.segments_figure, metric=report.headline), dots, told),
        folded(
            f"Figures of all {len(names)} segments",
            _segments(rows, report.segment_gain, names, report.headline),
        ),
    )


def _by_difference(rows: pl.DataFrame, gain: pl.DataFrame) -> list[str]:
    """Segments by the size of what text adds; those it is not known for come last."""
    sizes = {row["segment"]: abs(row["mean"] or 0.0) for row in gain.iter_rows(named=True)}
    names = rows["segment"].unique(maintain_order=True).to_list()
    return sorted(names, key=lambda name: -sizes.get(name, -1.0))


def _greatest(names: Sequence[str], gain: pl.DataFrame, confidence: float) -> str:
    """Where text helps and where it costs, as far as intervals tell, in a sentence."""
    sure = [row for row in gain.iter_rows(named=True) if row["low"] is not None]
    parts = []
    for words, chosen in (
        ("Text helps with", [row for row in sure if row["low"] > 0]),
        ("Text costs with", [row for row in sure if row["high"] < 0]),
    ):
        first = sorted(chosen, key=lambda row: names.index(row["segment"]))[:3]
        told = ", ".join(f"{segment_label(row['segment'])} ({row['mean']:+.3f})" for row in first)
        more = f" and {len(chosen) - len(first)} more" if len(chosen) > len(first) else ""
        parts += [f"{words} {told}{more}."] if first else []
    if parts:
        chance = len(sure) * (1 - confidence)
        parts.append(
            f"Of {len(sure)} such intervals about {chance:.1f} would leave out zero by chance alone."
        )
    none = f"In none of the {len(names)} segments does the interval of what text adds leave out zero."
    return f'<p class="summary">{text(" ".join(parts) or none)}</p>'


def _segments(rows: pl.DataFrame, gain: pl.DataFrame, names: Sequence[str], headline: str) -> str:
    cells = {(row["segment"], row["scorer"]): row for row in rows.iter_rows(named=True)}
    added = {row["segment"]: row for row in gain.iter_rows(named=True)}
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
                *(measure(cells.get((segment, name))) for name in scorers),
                measure(added.get(segment), signed=True),
            ],
        )
        for segment in names
    ]
    columns = ["Lists evaluated", *(scorer(name).label for name in scorers), "What text adds"]
    return grid("Segment", columns, body, f"{metric_label(headline)} by segment, with intervals below.")
