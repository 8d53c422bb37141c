"""The report's sections on features, calibration, exposure, example lists, topics, drift, inputs and versions."""

from typing import Any

import polars as pl

from models.report import plots as figures
from models.report import report_plots as report_figures
from models.report.html_parts import HALF, cell, empty, folded, grid, meanings, picture, section, table, text
from models.report.plots import in_order, scorer
from models.report.quality_sections import NOT_EVALUATED
from models.report.report_data import RankedList, ReportData

_LITTLE, _MUCH = 0.1, 0.25
"""Conventional thresholds of the population stability index."""
_MAX_INPUTS = 10
_MAX_VALUES = 8
"""Values of an attribute in its plot."""
_MAX_ATTRIBUTES = 4
"""Attributes with a plot."""
_MAX_VERSIONS = 15
_BEYOND = {
    "coverage": ("Coverage", "Share of all available items that reached the top positions of any list."),
    "gini": ("Inequality", "Gini coefficient of top positions by item: 0 if all items get equally many."),
    "novelty": ("Novelty", "Mean self-information of shown items, in bits: one more means half as popular."),
    "diversity": ("Diversity", "How different the texts of a list are from each other: 0 is all the same."),
    "popularity_lift": ("Popularity lift", "Popularity of shown over that of available items; 1 is neutral."),
}  # fmt: skip
_MAX_SHIFTS = 12
_TOPICS = (
    "What the interest model predicts for a slice's candidates, and how many there are, by attribute value. A ring "
    "marks a figure outside the band expected from the slices before."
)
_RATES = ("error", "predicted", "observed")


def feature_importance(report: ReportData) -> str:
    """Features by their share of the total gain."""
    rows = report.importance
    content = empty("No ranker is registered yet.")
    if rows.height:
        first = ", ".join(rows.sort("gain", "feature", descending=[True, False])["feature"].head(5))
        caption = f"Bar chart of features by share of gain; the first are {first}."
        content = picture(figures.importance_figure, rows, caption, HALF)
    return section(
        "features", "Feature importance", "How much each feature's splits lowered the training loss.", content
    )


def calibration(report: ReportData) -> str:
    """Predicted against observed click rates, before and after calibration."""
    if not report.calibration.height:
        reason = "No evaluated slice has a click probability."
        content = empty(reason if report.evaluated else NOT_EVALUATED)
    else:
        errors = [
            (row["predictor"], row["predictor"], [f"{row[name]:.2%}" for name in _RATES])
            for row in report.calibration_errors.iter_rows(named=True)
        ]
        summary = "; ".join(f"{name}: mean error {rates[0]}" for name, _, rates in errors)
        content = picture(
            report_figures.calibration_figure,
            report.calibration,
            f"Predicted against observed click rate. {summary}.",
            HALF,
        ) + grid(
            "",
            ["Mean error", "Predicted", "Observed"],
            errors,
            "Calibration error, mean prediction, and click rate.",
        )
    return section(
        "calibration",
        "Calibration",
        "A dot on the dashed line: predicted and observed click rates match. Before: the ranker's raw score through a "
        "sigmoid. After: the click probability in ranked lists.",
        content,
    )


def exposure(report: ReportData) -> str:
    """Which values of each attribute get the top positions."""
    parts = []
    if not report.attributes:
        parts.append(empty("The project declares no categorical attribute, so exposure cannot be compared."))
    elif not report.exposure.height:
        parts.append(empty(NOT_EVALUATED))
    for attribute in report.attributes[:_MAX_ATTRIBUTES] if report.exposure.height else ():
        rows = report.exposure.filter(pl.col("attribute") == attribute)
        if rows.height:
            parts += [f'<h3 class="part">{text(attribute.capitalize())}</h3>', _exposure_by(attribute, rows)]
    return section(
        "exposure",
        "Exposure",
        "Share of the full ranker's top positions for each value of an attribute, beside its share of candidates and "
        "of clicks. A share of positions far above both favours a value; far below, it hides it.",
        *parts,
    )


def _exposure_by(attribute: str, rows: pl.DataFrame) -> str:
    # Items without a value are only in the table: in the plot they would dwarf the others.
    named = rows.drop_nulls("value")
    shown = (named if named.height else rows).head(_MAX_VALUES)
    gaps = named.with_columns(gap=pl.col("share_of_positions") - pl.col("share_of_clicks")).drop_nulls("gap")
    caption = f"Dot plot of shares of candidates, top positions and clicks for {shown.height} values of {attribute}."
    summary = ""
    if gaps.height:
        row = gaps.sort(pl.col("gap").abs(), descending=True).row(0, named=True)
        summary = (
            f"Largest gap: {row['value']} with {row['share_of_positions']:.1%} of the top positions and "
            f"{row['share_of_clicks']:.1%} of the clicks."
        )
    shares = [
        (
            str(row["value"]),
            row["value"] or "(none)",
            ["–" if row[name] is None else f"{row[name]:.1%}" for name in _SHARES],
        )
        for row in rows.iter_rows(named=True)
    ]
    figures_table = grid(
        attribute.capitalize(), [*_SHARES.values()], shares, f"Shares by {attribute}, all evaluated slices."
    )
    return (
        f'<p class="summary">{text(summary)}</p>{picture(report_figures.exposure_figure, shown, caption)}'
        f"{folded(f'Figures of all {rows.height} values', figures_table)}"
    )


_SHARES = {
    "share_of_candidates": "Of candidates",
    "share_of_positions": "Of top positions",
    "share_of_clicks": "Of clicks",
}


def beyond_accuracy(report: ReportData) -> str:
    """Coverage, novelty, diversity and popularity of each scorer's lists."""
    content = empty(NOT_EVALUATED)
    if report.beyond.height:
        columns = [name for name in _BEYOND if name in report.beyond.columns]
        by_scorer = {row["scorer"]: row for row in report.beyond.iter_rows(named=True)}
        rows = [
            (name, scorer(name).label, [cell(by_scorer[name][c]) for c in columns])
            for name in in_order([*by_scorer])
        ]
        content = grid("Scorer", [_BEYOND[c][0] for c in columns], rows, "Means over evaluated slices.")
        content += meanings((text(_BEYOND[c][0]), _BEYOND[c][1]) for c in columns)
    return section(
        "beyond",
        "Beyond accuracy",
        "What the lists show, whatever users click: how many of the items, and how varied.",
        content,
    )


def drift(report: ReportData) -> str:
    """Drift of the ranker's inputs."""
    if not report.drift.height:
        content = empty("There is no earlier slice to compare the last one with.")
    else:
        worst = report.drift.sort("psi", "column", descending=[True, False], nulls_last=True).head(
            _MAX_INPUTS
        )
        much = report.drift.filter(pl.col("psi") > _MUCH).height
        some = report.drift.filter(pl.col("psi").is_between(_LITTLE, _MUCH)).height
        summary = f"Of {report.drift.height:,} inputs, {much:,} drifted much and {some:,} somewhat."
        rows = worst.select("meaning", "psi", _drift_size().alias("drift"), "column")
        names = {"meaning": "Input", "psi": "PSI"}
        content = f'<p class="summary">{text(summary)}</p>' + table(
            rows, f"The {worst.height} inputs that drifted most (population stability index, PSI).", names
        )
    return section(
        "drift",
        "Input drift",
        f"Slice {report.slices[1]} against the window before it: the population stability index of each input. Below "
        f"{_LITTLE} is little, above {_MUCH} much. Weekdays follow the calendar and counters without decay grow with "
        "time: their drift is expected.",
        content,
    )


def _drift_size() -> pl.Expr:
    psi = pl.col("psi")
    words = pl.when(psi > _MUCH).then(pl.lit("much")).when(psi > _LITTLE).then(pl.lit("somewhat"))
    return words.otherwise(pl.lit("little"))


def inputs(report: ReportData) -> str:
    """Accepted and rejected rows by slice."""
    rows = report.volume
    content = empty("No slice has been read yet.")
    if rows.height:
        last = rows.sort("slice").row(-1, named=True)
        rate = "" if last["click_rate"] is None else f", a click rate of {last['click_rate']:.1%}"
        caption = f"Lists and click rate by slice; the last slice has {last['impressions']:,} lists{rate}."
        content = picture(report_figures.volume_figure, rows, caption) + folded(
            "Figures of all slices", table(rows, "Rows of each slice; click rate is clicks over candidates.")
        )
    rejects = empty("No row was rejected.")
    if report.rejects.height:
        rejects = table(report.rejects, "Rejected rows by reason.", {"first": "First row"})
    return section(
        "inputs",
        "Inputs",
        "Impressions and click rates by slice. A row is accepted, or rejected with a reason.",
        content,
        '<h3 class="part">Rejected rows</h3>',
        rejects,
    )


def example_lists(report: ReportData) -> str:
    """Ranked lists of a few users, with reasons."""
    return section(
        "lists",
        "Example lists",
        "A few users, what they clicked before, and their next list with click probabilities.",
        f'<div class="lists">{"".join(map(_ranked_list, report.lists))}</div>'
        if report.lists
        else empty("No list was ranked for this slice: no ranker was serving yet."),
    )


def topics(report: ReportData) -> str:
    """Predicted rate and volume of attribute values by slice, and the newest figures outside their bands."""
    if not report.topics.height:
        return section("topics", "Topics", _TOPICS, empty("No slice has figures by attribute value."))
    first = report.topics.filter(attribute=report.attributes[0])
    shifts = report.topics.filter("shifted").sort(
        "slice", "attribute", "value", descending=[True, False, False]
    )
    rows = shifts.head(_MAX_SHIFTS).select(
        "slice", "since", pl.format("{}: {}", "attribute", "value").alias("topic"),
        pl.col("figure").str.replace("_", " "), "shown", "mean", "expected", "typical",
    )  # fmt: skip
    plots = f"Line plots of predicted rate and volume by {report.attributes[0]}."
    caption = f"Figures outside their bands, newest first ({rows.height} of {shifts.height})."
    return section(
        "topics",
        "Topics",
        _TOPICS,
        picture(report_figures.topics_figure, first, plots),
        table(rows, caption) if rows.height else empty("Every figure is within its band."),
    )


def _ranked_list(ranked: RankedList) -> str:
    entries = "".join(
        f'<li><span class="rank">{cell(row["rank"])}</span><span class="title">{text(row["title"])}</span>'
        f'<span class="score">{_score(row)}</span>'
        f'<span class="reasons">{text(row["reasons"] or "")}</span></li>'
        for row in ranked.rows.iter_rows(named=True)
    )
    past = f"Clicked before: {' · '.join(map(text, ranked.past))}" if ranked.past else "No clicks yet"
    return f'<article class="list">{list_heading(ranked.user)}<p class="past">{past}</p><ol>{entries}</ol></article>'


def list_heading(user: str) -> str:
    """The heading of a user's list: a page without it shows nothing of that user."""
    return f"<h3>{text(user)}</h3>"


def _score(row: dict[str, Any]) -> str:
    """The click probability, or the rank score of a ranker without calibration."""
    return cell(row["rank_score"]) if row["click_probability"] is None else f"{row['click_probability']:.0%}"


def versions(report: ReportData) -> str:
    """Registered versions and the promotion decisions, newest first."""
    rows = report.versions.head(_MAX_VERSIONS)
    more = report.versions.height - rows.height
    caption = f"Versions, newest first{f'; {more:,} older ones are in MLflow' if more else ''}."
    content = table(rows, caption) if rows.height else empty("No version is registered yet.")
    return section("versions", "Versions", "Registered versions and the decision about each.", content)
