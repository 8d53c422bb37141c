"""The report's sections about what a ranker does and is fed with: trust, exposure, inputs, lists, versions."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from models.report import plots as figures
from models.report import report_plots as report_figures
from models.report.parts import HALF, cell, empty, folded, grid, picture, section, table, text
from models.report.plots import in_order, scorer
from models.report.sections import NOT_EVALUATED
from models.report.tables import RankedList, ReportData

_LITTLE, _MUCH = 0.1, 0.25
"""Population stability below and above which, by custom, a column moved little or much."""
_WORST = 10
_VALUES = 8
"""Values of an attribute that its plot holds."""
_PLOTTED = 4
"""Attributes that have a plot."""
_VERSIONS = 15
"""Versions that the page tells of."""
_BEYOND = {
    "coverage": ("Coverage", "Share of all items at hand that reached somebody's first places."),
    "gini": ("Inequality", "Gini coefficient of those places: 0 if all items get equally many."),
    "novelty": ("Novelty", "How unusual a shown item is, in bits; one bit more is half as usual."),
    "diversity": ("Diversity", "How unlike the texts of one list are to each other: 0 is all the same."),
    "popularity_lift": ("Popularity lift", "Popularity of what is shown over that of what is at hand; 1 is neutral."),
}  # fmt: skip


def goes_by(report: ReportData) -> str:
    """Which features matter."""
    rows = report.importance
    shown = empty("No ranker is registered yet.")
    if rows.height:
        first = ", ".join(rows.sort("gain", "feature", descending=[True, False])["feature"].head(5))
        told = f"Bar chart of features by share of gain; the first are {first}."
        shown = picture(figures.importance_figure, rows, told, HALF)
    return section(
        "features", "What the ranker goes by", "How much of what it learned came from each feature.", shown
    )


def believed(report: ReportData) -> str:
    """Whether probabilities come true, before and after calibration."""
    if not report.calibration.height:
        why = "No evaluated slice has a click probability."
        shown = empty(why if report.evaluated else NOT_EVALUATED)
    else:
        errors = [
            (
                row["predictor"],
                row["predictor"],
                [f"{row[name]:.2%}" for name in ("error", "predicted", "observed")],
            )
            for row in report.calibration_errors.iter_rows(named=True)
        ]
        told = "; ".join(f"{name} is off by {figures_[0]} on average" for name, _, figures_ in errors)
        shown = picture(
            report_figures.calibration_figure,
            report.calibration,
            f"Predicted against observed click rate: {told}.",
            HALF,
        ) + grid(
            "", ["Off by", "Predicted", "Observed"], errors, "Mean distance, mean prediction, and what came."
        )
    return section(
        "calibration",
        "Can its probabilities be believed",
        "Where a dot lies on the dashed line, what was predicted came true. Before: the ranker's raw score, squeezed "
        "into 0 to 1. After: the click probability that lists carry.",
        shown,
    )


def places(report: ReportData) -> str:
    """Who gets the first places, attribute by attribute."""
    parts = []
    if not report.attributes:
        parts.append(
            empty("The project declares no categorical attribute, so there are no values to tell apart.")
        )
    elif not report.exposure.height:
        parts.append(empty(NOT_EVALUATED))
    for attribute in report.attributes[:_PLOTTED] if report.exposure.height else ():
        rows = report.exposure.filter(pl.col("attribute") == attribute)
        if rows.height:
            parts += [f'<h3 class="part">{text(attribute.capitalize())}</h3>', _places_of(attribute, rows)]
    return section(
        "exposure",
        "Who gets the first places",
        "Share of the full ranker's first places for each value of an attribute, beside its share of what could be "
        "shown and of what people took. Places far above both favour a value; far below, they hide it.",
        *parts,
    )


def _places_of(attribute: str, rows: pl.DataFrame) -> str:
    # What has no value is in the table: beside it the values would be too small to tell apart.
    named = rows.drop_nulls("value")
    shown = (named if named.height else rows).head(_VALUES)
    far = named.with_columns(gap=pl.col("share_of_positions") - pl.col("share_of_clicks")).drop_nulls("gap")
    told = (
        f"Dot plot of shares of candidates, first places and clicks for {shown.height} values of {attribute}."
    )
    summary = ""
    if far.height:
        row = far.sort(pl.col("gap").abs(), descending=True).row(0, named=True)
        summary = (
            f"Furthest apart: {row['value']}, {row['share_of_positions']:.1%} of the places and "
            f"{row['share_of_clicks']:.1%} of the clicks."
        )
    shares = [
        (str(row["value"]), row["value"] or "(none)", [_share(row[name]) for name in _SHARES])
        for row in rows.iter_rows(named=True)
    ]
    all_ = grid(
        attribute.capitalize(), [*_SHARES.values()], shares, f"Shares by {attribute}, all evaluated slices."
    )
    return (
        f'<p class="summary">{text(summary)}</p>{picture(report_figures.exposure_figure, shown, told)}'
        f"{folded(f'Figures of all {rows.height} values', all_)}"
    )


_SHARES = {
    "share_of_candidates": "Of what could be shown",
    "share_of_positions": "Of the first places",
    "share_of_clicks": "Of clicks",
}


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def beyond(report: ReportData) -> str:
    """What lists show, whatever their accuracy."""
    shown = empty(NOT_EVALUATED)
    if report.beyond.height:
        columns = [name for name in _BEYOND if name in report.beyond.columns]
        found = {row["scorer"]: row for row in report.beyond.iter_rows(named=True)}
        rows = [
            (name, scorer(name).label, [cell(found[name][c]) for c in columns]) for name in in_order([*found])
        ]
        meanings = "".join(
            f"<div><dt>{text(_BEYOND[c][0])}</dt><dd>{text(_BEYOND[c][1])}</dd></div>" for c in columns
        )
        shown = grid("Scorer", [_BEYOND[c][0] for c in columns], rows, "Means over evaluated slices.")
        shown += f'<dl class="meanings">{meanings}</dl>'
    return section(
        "beyond",
        "Beyond accuracy",
        "What the lists show, whatever people took: how much of the stock, how varied.",
        shown,
    )


def moved(report: ReportData) -> str:
    """How far the inputs moved, and how much came in."""
    if not report.drift.height:
        told = empty("There is no earlier slice to compare the last one with.")
    else:
        worst = report.drift.sort("psi", "column", descending=[True, False], nulls_last=True).head(_WORST)
        much, some = (
            report.drift.filter(pl.col("psi") > _MUCH).height,
            report.drift.filter(pl.col("psi").is_between(_LITTLE, _MUCH)).height,
        )
        summary = f"Of {report.drift.height:,} inputs, {much:,} moved much and {some:,} somewhat."
        rows = worst.select("meaning", "psi", _moved().alias("moved"), "column")
        names = {"meaning": "What", "column": "Column", "psi": "Index", "moved": "Moved"}
        told = f'<p class="summary">{text(summary)}</p>' + table(
            rows, f"The {worst.height} inputs that moved most (population stability index).", names
        )
    return section(
        "drift",
        "Have the inputs moved",
        f"Slice {report.slices[1]} against the window before it: the population stability index of each input. Below "
        f"{_LITTLE} is little, above {_MUCH} much. The weekday turns with the calendar and what never forgets grows "
        "with time: these move without anything being wrong.",
        told,
    )


def _moved() -> pl.Expr:
    psi = pl.col("psi")
    words = pl.when(psi > _MUCH).then(pl.lit("much")).when(psi > _LITTLE).then(pl.lit("somewhat"))
    return words.otherwise(pl.lit("little"))


def came_in(report: ReportData) -> str:
    """Rows kept and refused, slice by slice, and why."""
    rows = report.volume
    shown = empty("No slice has been read yet.")
    if rows.height:
        last = rows.sort("slice").row(-1, named=True)
        rate = "" if last["click_rate"] is None else f", a click rate of {last['click_rate']:.1%}"
        told = f"Bars of lists shown, a line of click rates, by slice; the last: {last['impressions']:,} lists{rate}."
        shown = picture(report_figures.volume_figure, rows, told) + folded(
            "Figures of all slices", table(rows, "Rows of each slice; click rate is clicks over candidates.")
        )
    refused = empty("No row was refused.")
    if report.rejects.height:
        refused = table(report.rejects, "Refused rows by reason.", {"first": "The first one"})
    return section(
        "inputs",
        "What came in",
        "Lists and click rates by slice. Rows are kept or refused with a reason; none is dropped in silence.",
        shown,
        '<h3 class="part">Refused</h3>',
        refused,
    )


def lists(report: ReportData) -> str:
    """A few people's lists with reasons."""
    return section(
        "lists",
        "Lists it would show",
        "A few people, what they took before, and what they would see next; the per cent say how likely each is taken.",
        _lists(report.lists)
        if report.lists
        else empty("No list was ranked for this slice: no ranker served yet."),
    )


def _lists(ranked: Sequence[RankedList]) -> str:
    return f'<div class="lists">{"".join(map(_ranked_list, ranked))}</div>'


def _ranked_list(one: RankedList) -> str:
    entries = "".join(
        f'<li><span class="rank">{cell(row["rank"])}</span><span class="title">{text(row["title"])}</span>'
        f'<span class="score">{_likely(row)}</span>'
        f'<span class="reasons">{text(row["reasons"] or "")}</span></li>'
        for row in one.rows.iter_rows(named=True)
    )
    past = f"Took before: {' · '.join(map(text, one.past))}" if one.past else "Took nothing yet"
    return f'<article class="list">{list_heading(one.user)}<p class="past">{past}</p><ol>{entries}</ol></article>'


def list_heading(user: str) -> str:
    """The heading of a user's list; on a page that shows none of theirs it does not occur."""
    return f"<h3>{text(user)}</h3>"


def _likely(row: dict[str, Any]) -> str:
    """The click probability; the score where the ranker knows none."""
    return cell(row["rank_score"]) if row["click_probability"] is None else f"{row['click_probability']:.0%}"


def versions(report: ReportData) -> str:
    """What was registered and decided, the newest first."""
    rows = report.versions.head(_VERSIONS)
    more = report.versions.height - rows.height
    caption = f"Versions, newest first{f'; {more:,} older ones are in MLflow' if more else ''}."
    shown = table(rows, caption) if rows.height else empty("No version is registered yet.")
    return section("versions", "Versions", "What was registered, and what was decided about it.", shown)
