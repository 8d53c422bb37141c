"""Terminal output of the commands: event counts, metrics, ranked lists, champion history."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from features.config.sections import Source
from features.events.log_problems import Problem
from features.events.validation import Events
from features.sources.reject_hints import hint
from models.evaluation.attainable import beside_random
from models.evaluation.metrics import MetricSet
from models.evaluation.seed_variance import GAIN
from models.registry.champion_history import Move
from pipelines.deployment import Deployment
from pipelines.estimating import Estimated
from pipelines.reporting import page_of
from pipelines.requests import EXPLANATION_COLUMNS
from pipelines.terminal import Terminal, styled

_EXAMPLE = 160
"""Characters shown of a rejected row."""


def inputs(
    out: Terminal, name: str, source: Source, file: Path, events: Events, problems: Sequence[Problem]
) -> None:
    """Print row counts per slice, rejected rows by reason with an example, and problems of the whole log."""
    table = Table("slice", "items", "impressions", "interactions", "rejects", title=name)
    tables = (events.items, events.impressions, events.interactions, events.rejects)
    counts = [dict(frame["slice"].value_counts().iter_rows()) for frame in tables]
    for slice in sorted(set().union(*counts)):
        table.add_row(slice, *(f"{count.get(slice, 0):,}" for count in counts))
    out.print(table)
    for reason, count in events.rejects["reason"].value_counts(sort=True).iter_rows():
        example = events.rejects.filter(reason=reason).row(0, named=True)
        first = f"{example['source']} line {example['line']}"
        out.print(
            f"  {count:,} x {reason}, first in {first}: {example['raw'][:_EXAMPLE]}",
            soft_wrap=True,
        )
        if advice := hint(reason, tables=source.format == "tables"):
            out.print(f"    {advice}", style="dim", soft_wrap=True)
    for problem in problems:
        kind = ("error", "bold red") if problem.fatal else ("warning", "bold yellow")
        out.print(styled(kind, (f" {problem.text}", "")), soft_wrap=True)
    if any(problem.fatal for problem in problems):
        out.print(
            f"A model cannot be trained on this log yet. Fix it or the project file, then: momentrank check {file}"
        )
    else:
        verdict = "The project file is valid" + (", but see the warnings" if problems else "")
        out.print(f"{verdict}: momentrank run {file}")


def quality(out: Terminal, figures: dict[str, Any], title: str) -> None:
    """Print each scorer's metrics, best first, then how `full` compares with random."""
    headline, *others = MetricSet.among([figures["headline"]]).shown
    heading = f"{title}: {figures['impressions']:,} impressions evaluated"
    table = Table("scorer", f"{headline} (interval)", *others, title=heading)
    scorers = figures["scorers"]
    for name in sorted(scorers, key=lambda s: -(scorers[s][headline]["mean"] or 0)):
        measured = scorers[name]
        table.add_row(
            name, _interval(measured[headline]), *(_mean(measured.get(metric)) for metric in others)
        )
    out.print(table)
    full, random = (scorers.get(name, {}).get(headline, {}).get("mean") for name in ("full", "random"))
    if full is not None and (comparison := beside_random(full, random)):
        out.print(f"full {headline} {full:.3f}; {comparison}", soft_wrap=True)


def gain(out: Terminal, figures: dict[str, Any]) -> None:
    """Print the gain from text over behaviour alone, on the same impressions."""
    gains = (f"{name} {_interval(figure)}" for name, figure in figures.items())
    out.print(f"gain from text: {', '.join(gains)}", soft_wrap=True)


def seed_variance(out: Terminal, figures: dict[str, Any], title: str) -> None:
    """Print mean and standard deviation over seeds of each scorer, best first, then of the gain from text."""
    metrics = [*next(iter(figures.values()))]
    headline = MetricSet.among(metrics).headline
    table = Table("scorer", *metrics, title=f"{title}: mean ± standard deviation")
    for name in sorted(figures, key=lambda s: (s == GAIN, -(figures[s][headline]["mean"] or 0))):
        table.add_row(name, *(_deviation(figures[name][metric]) for metric in metrics))
    out.print(table)


def estimated(out: Terminal, estimated: Estimated, k: int) -> None:
    """Print the estimates of a version's click rate, and what they rest on."""
    version, slices, estimates = estimated
    overlap = estimates.overlap
    table = Table(
        "estimate",
        "click rate (interval)",
        title=f"ranker version {version} on {slices[0]} … {slices[-1]}, first {k} positions",
    )
    for name, rate, low, high in estimates.table.iter_rows():
        table.add_row(name, f"{rate:.4f} ({low:.4f} to {high:.4f})")
    out.print(table)
    out.print(
        f"{estimates.impressions:,} impressions ({estimates.without_propensity:,} without propensities left out); "
        f"effective sample size {estimates.effective:,.0f}, largest weight {estimates.largest_weight:.1f}, mean weight "
        f"{overlap.mean:.2f} ({overlap.low:.2f} to {overlap.high:.2f}; 1 is full overlap)",
        soft_wrap=True,
    )


def results(out: Terminal, deployment: Deployment, last: str, seconds: float) -> None:
    """Print a run's metrics, model versions, one ranked list, and where to see more."""
    report, metrics = (
        page_of(deployment.settings.report(deployment.project.name), deployment.lake, last, name)
        for name in ("report.html", "metrics.json")
    )
    quality(out, json.loads(metrics.read_text(encoding="utf-8")), deployment.project.name)
    for kind in ("ranker", "interest"):
        versions = deployment.registry.versions(kind)
        aliases = [f"version {v['version']} ({v['slice']}) is {a}" for v in versions for a in v["aliases"]]
        out.print(f"{deployment.registry.name(kind)}: {len(versions)} versions; {', '.join(sorted(aliases))}")
    if deployment.lake.has("ranked_lists", last):
        lists = deployment.lake.read("ranked_lists", [last])
        for user in lists["user_id"].head(1):
            ranked(out, lists.filter(user_id=user), f"{user} at the end of {last}")
    out.print(f"report   {report}", soft_wrap=True)
    out.print(f"metrics  {metrics}", soft_wrap=True)
    out.print(f"UI       make ui, or: momentrank ui {deployment.settings.project}")
    out.print(f"took     {seconds:.0f} s")


def ranked(out: Terminal, lists: pl.DataFrame, title: str) -> None:
    """Print one user's ranked list."""
    table = Table("rank", "title", "score", "click prob.", "interest", "why", title=title)
    for row in lists.iter_rows(named=True):
        table.add_row(
            str(row["rank"]),
            row["title"],
            f"{row['rank_score']:.2f}",
            _share(row["click_probability"]),
            "" if row["interest_score"] is None else f"{row['interest_score']:.2f}",
            row["reasons"],
        )
    out.print(table)


def explained(out: Terminal, rows: pl.DataFrame, title: str) -> None:
    """Print each candidate's score as a sum over feature families, then the reasons in words."""
    families = [name for name in rows.columns if name not in EXPLANATION_COLUMNS]
    table = Table("rank", "title", "position", "clicked", "click prob.", "score", "= start", title=title)
    for family in families:
        table.add_column(f"+ {family}", justify="right")
    for row in rows.iter_rows(named=True):
        table.add_row(
            str(row["rank"]),
            row["title"],
            "" if row["position"] is None else str(row["position"]),
            "yes" if row["clicked"] else "",
            _share(row["click_probability"]),
            f"{row['rank_score']:.2f}",
            f"{row['start']:+.2f}",
            *(f"{row[name]:+.2f}" for name in families),
        )
    out.print(table)
    # Not as columns: the families already fill the terminal's width.
    for row in rows.iter_rows(named=True):
        out.print(f"{row['rank']:>3}  {row['title']}", soft_wrap=True)
        out.print(f"     {row['reasons']}", soft_wrap=True)
        moved = (
            f"{part['feature']} {_value(part['value'])} ({part['contribution']:+.2f})"
            for part in row["strongest"]
        )
        out.print(f"     most moved by {', '.join(moved) or 'nothing'}", style="dim", soft_wrap=True)
        if row["because"]:
            out.print(f"     interest {row['because']}", style="dim", soft_wrap=True)


def history(out: Terminal, moves: Sequence[Move], champion: tuple[str, str] | None, name: str) -> None:
    """Print every change of the champion, oldest first, and the current one."""
    table = Table("when", "version", "slice", "action", "replaced", "reason", title=name)
    for move in moves:
        table.add_row(
            f"{move.at:%Y-%m-%d %H:%M:%S}",
            move.version,
            move.slice,
            move.action,
            move.replaced or "–",
            move.reason,
        )
    out.print(table)
    now = f"version {champion[0]} ({champion[1]}) is champion" if champion else "there is no champion yet"
    out.print(f"{name}: {now}")


def _share(probability: float | None) -> str:
    """A click probability in per cent; empty if unknown."""
    return "" if probability is None else f"{probability:.1%}"


def _value(value: float | None) -> str:
    return "missing" if value is None else f"{value:.4g}"


def _interval(figure: dict[str, float | None]) -> str:
    if figure["mean"] is None:
        return "–"
    return f"{figure['mean']:.3f} ({figure['low']:.3f}–{figure['high']:.3f})"


def _deviation(figure: dict[str, Any]) -> str:
    if figure["mean"] is None or figure["deviation"] is None:
        return "–"
    return f"{figure['mean']:.4f} ± {figure['deviation']:.4f}"


def _mean(figure: dict[str, float | None] | None) -> str:
    return "–" if figure is None or figure["mean"] is None else f"{figure['mean']:.3f}"
