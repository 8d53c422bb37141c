"""Monitors: each compares a run's slices with the slices before them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs

from features.behaviour import read_features
from features.config.extensions import extended
from features.config.project import Project
from features.config.sections import Checks
from features.drift import drift
from features.ranking_dataset import labelled
from features.schemas import Interactions, Items
from features.state import SliceEvents
from pipelines.lake import Lake
from pipelines.monitoring.anomalies import anomalies, click_noise, cosine_distance
from pipelines.reporting import with_titles
from pipelines.slice_tables import SliceTables
from pipelines.triggers.partitions import LAST_TABLE, complete

_MAX_ROWS = 5_000
"""Rows per side in a comparison of distributions: sampling noise then moves the PSI by about 0.004."""
_MAX_NAMED = 5
_MAX_TITLE = 100


@dataclass(frozen=True)
class Finding:
    """The outcome of a check."""

    passed: bool
    summary: str
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """The slices of a run, in order, and the lake and the project that they belong to."""

    lake: Lake
    project: Project
    slices: Sequence[str]
    cache: Path | None = None
    """Folder of cached text vectors."""

    @property
    def checks(self) -> Checks:
        """The project's thresholds."""
        return self.project.checks

    def before(self, table: str) -> list[str]:
        """The trailing slices of a table before the newest one."""
        return [k for k in self.lake.slices(table) if k < self.slices[-1]][-self.checks.trailing :]

    def series(self, table: str, **figures: pl.Expr) -> pl.DataFrame:
        """Aggregates of each slice of a table up to the newest: `slice` and one column per figure."""
        slices = [key for key in self.lake.slices(table) if key <= self.slices[-1]]
        rows = self.lake.scan(table, slices)
        return rows.group_by("slice").agg(**figures).collect().sort("slice")


@dataclass(frozen=True)
class Monitor:
    """A condition on how a table changes from slice to slice."""

    asset: str
    name: str
    description: str
    """What holds if it passes."""
    evaluate: Callable[[View], Finding]
    level: str = "warn"
    """`warn` or `block`, unless `[checks.level]` says otherwise."""


MONITORS: dict[str, Monitor] = {}
"""The built-in monitors by name; those of `checks.monitors` come after them."""


def _monitor(
    asset: str, name: str, description: str
) -> Callable[[Callable[[View], Finding]], Callable[[View], Finding]]:
    def register(evaluate: Callable[[View], Finding]) -> Callable[[View], Finding]:
        MONITORS[f"{asset}.{name}"] = Monitor(asset, name, description, evaluate)
        return evaluate

    return register


_TOO_FEW = Finding(True, "too few slices to compare with")


@_monitor("impressions", "volume", "the number of impressions is in its usual range")
def _volume(view: View) -> Finding:
    counts = view.series("impressions", rows=pl.len())
    return _outliers(view, dict(counts.iter_rows()), "impressions", {})


@_monitor("candidates", "click_rate", "the click rate is in its usual range")
def _click_rate(view: View) -> Finding:
    table = view.series("candidates", rate=pl.col("clicked").mean(), shown=pl.len())
    noise = {key: click_noise(rate or 0.0, shown) for key, rate, shown in table.iter_rows()}
    rates = {key: rate for key, rate, _ in table.iter_rows() if rate is not None}
    return _outliers(view, rates, "clicks per candidate", noise)


def _outliers(view: View, values: dict[str, float], quantity: str, noise: dict[str, float]) -> Finding:
    checks, newest = view.checks, view.slices[-1]
    scores = anomalies(values, view.slices, checks.anomaly, checks.trailing, checks.min_history, noise)
    figures = {"newest": float(values.get(newest, 0.0))}
    if not scores:
        return Finding(True, f"{figures['newest']:.4g} {quantity} in {newest}", figures)
    named = ", ".join(f"{key}: {values[key]:.4g} (z {z:+.1f})" for key, z in [*scores.items()][:_MAX_NAMED])
    return Finding(False, f"{quantity} far from the slices before: {named}", figures)


@_monitor("candidates", "known_items", "the logs describe the items shown")
def _unknown_items(view: View) -> Finding:
    lake = view.lake
    slices = [key for key in lake.slices("items") if key <= view.slices[-1]]
    described = lake.scan("items", slices).select("item_id").unique()
    shown = lake.scan("candidates", view.slices).select("item_id")
    unknown = shown.join(described, on="item_id", how="anti").select(pl.len()).collect().item()
    total = shown.select(pl.len()).collect().item()
    return _share(unknown, total, view.checks.unknown_items, "candidates are unknown items")


@_monitor("items", "text", "items have a text")
def _no_text(view: View) -> Finding:
    items = view.lake.read("items", view.slices, ["title", "body"])
    empty = items.filter((pl.col("title") == "") & (pl.col("body").fill_null("") == "")).height
    return _share(empty, items.height, view.checks.no_text, "item versions have no text")


@_monitor("rejects", "share", "few rows are rejected")
def _rejected(view: View) -> Finding:
    lake = view.lake
    rejected, valid = (
        sum(lake.read(name, view.slices, ["slice"]).height for name in names)
        for names in (["rejects"], ["items", "impressions", "interactions"])
    )
    return _share(rejected, rejected + valid, view.checks.rejected, "rows were rejected")


def _share(part: int, total: int, limit: float, what: str) -> Finding:
    share = part / total if total else 0.0
    summary = f"{part:,} of {total:,} {what}: {share:.2%}, limit {limit:.2%}"
    return Finding(share <= limit, summary, {"share": share})


@_monitor("features", "drift", "feature distributions have not drifted")
def _feature_drift(view: View) -> Finding:
    schema = view.lake.scan("features").collect_schema()
    forms = tuple(f"_{form}" for form in view.project.features.relative)
    # Lifetime counters always grow, and relative forms compare within an impression: neither shows drift.
    columns = [
        name
        for name, dtype in schema.items()
        if dtype.is_float() and not name.endswith(forms) and "_all" not in name
    ]
    return _drift(view, "features", columns)


@_monitor("interest_scores", "drift", "the distribution of interest scores has not drifted")
def _score_drift(view: View) -> Finding:
    return _drift(view, "interest_scores", ["interest_score"])


def _drift(view: View, table: str, columns: list[str]) -> Finding:
    before, checks = view.before(table), view.checks
    if len(before) <= checks.min_history:
        return _TOO_FEW
    lake = view.lake
    past, previous, newest = (
        _sample(lake.read(table, slices, columns)) for slices in (before[:-1], before[-1:], view.slices[-1:])
    )
    # Weekdays and topics always move some columns: only a shift larger than the previous slice's counts.
    baseline = dict(drift(past, previous, columns).fill_null(0.0).iter_rows())
    ordered = drift(pl.concat([past, previous]), newest, columns).sort(
        "psi", descending=True, nulls_last=True
    )
    psi = [(name, value) for name, value in ordered.iter_rows() if value is not None]
    drifted = [
        (name, value)
        for name, value in psi
        if value > max(checks.max_psi, checks.max_psi_ratio * baseline[name])
    ]
    largest = ", ".join(
        f"{name} {value:.2f} (slice before: {baseline[name]:.2f})"
        for name, value in (drifted or psi)[:_MAX_NAMED]
    )
    summary = (
        f"{len(drifted)} of {len(columns)} columns have a PSI above {checks.max_psi:g} and "
        f"{checks.max_psi_ratio:g} times that of the slice before; largest: {largest}"
    )
    return Finding(
        not drifted, summary, {"largest": psi[0][1] if psi else 0.0, "columns": float(len(drifted))}
    )


def _sample(table: pl.DataFrame) -> pl.DataFrame:
    return table.gather_every(max(1, table.height // _MAX_ROWS))


@_monitor("item_vectors", "drift", "new texts resemble earlier texts")
def _text_drift(view: View) -> Finding:
    before, limit = view.before("item_vectors"), view.checks.text_drift
    if len(before) < view.checks.min_history:
        return _TOO_FEW
    lake = view.lake
    newest, past = (
        _mean_vector(lake.read("item_vectors", slices, ["vector"])) for slices in (view.slices[-1:], before)
    )
    if newest is None or past is None:
        return Finding(True, "no item has a text")
    distance = cosine_distance(newest, past)
    summary = f"cosine distance of the mean text vectors {distance:.3f}, limit {limit:g}"
    return Finding(distance <= limit, summary, {"distance": distance})


def _mean_vector(table: pl.DataFrame) -> pl.Series | None:
    if table.is_empty():
        return None
    size = len(table["vector"][0])
    return pl.Series(table["vector"].list.to_array(size).to_numpy().mean(axis=0), dtype=pl.Float64)


@_monitor("evaluation", "calibration", "predicted and observed click rates match")
def _calibration(view: View) -> Finding:
    lake, limit = view.lake, view.checks.calibration
    evaluated = [key for key in view.slices if lake.has("evaluation_scores", key)]
    if not evaluated:
        return Finding(True, "nothing was evaluated yet")
    scores = lake.read("evaluation_scores", evaluated[-1:], ["click_probability", "clicked"])
    if scores.is_empty():
        return Finding(True, f"no impression was evaluated in {evaluated[-1]}")
    predicted, observed = scores.select(pl.col("click_probability").mean(), pl.col("clicked").mean()).row(0)
    difference = float(predicted - observed)
    rates = f"click rate {predicted:.4f} predicted, {observed:.4f} observed in {evaluated[-1]}"
    return Finding(
        abs(difference) <= limit, f"{rates}; largest difference allowed {limit:g}", {"difference": difference}
    )


@_monitor("features", "training_serving_skew", "live requests compute the features that training used")
def _training_serving_skew(view: View) -> Finding:
    """Recompute features of past impressions as a live request would, and compare them with the stored ones."""
    tables, slice = SliceTables(view.lake, view.project), view.slices[-1]
    impressions = labelled(view.lake.read("impressions", [slice]).drop("slice"))
    impressions = impressions.sort("shown_at", "impression_id")
    # A request needs the state of an earlier slice.
    if impressions.is_empty() or not view.checks.requests or not view.project.slices.previous(slice):
        return Finding(True, "no impression to compare")
    sample = impressions.gather_every(max(1, impressions.height // view.checks.requests))
    sample = sample.tail(view.checks.requests)
    no_items, no_interactions = Items.create_empty(), Interactions.create_empty()
    live = []
    for request in sample.iter_slices(1):
        state = tables.state_at(request["shown_at"][0])
        vectors = tables.vectors_for(state, request, slice, view.cache)
        live.append(read_features(state, SliceEvents(no_items, request, no_interactions), vectors))
    ids = sample["impression_id"].implode()
    stored = view.lake.scan("features", [slice]).filter(pl.col("impression_id").is_in(ids))
    largest, column = largest_difference(
        stored.drop("slice").collect(), pl.concat(live), view.checks.max_difference
    )
    summary = f"{sample.height} impressions recomputed: largest difference {largest:.1e}"
    return Finding(not column, summary + (f", in {column}" if column else ""), {"difference": largest})


def largest_difference(stored: pl.DataFrame, live: pl.DataFrame, limit: float) -> tuple[float, str]:
    """Largest difference between the numbers of two features tables, and its column if it exceeds `limit`, else "".

    Differences are relative to stored values above 1; a value that is null on one side only differs infinitely.
    """
    keys = ["impression_id", "item_id"]
    left, right = stored.sort(keys), live.select(stored.columns).sort(keys)
    if not left.select(keys).equals(right.select(keys)):
        return float("inf"), "their candidates"
    largest, column = 0.0, ""
    for name in left.select(cs.numeric()).columns:
        ours, theirs = left[name].cast(pl.Float64), right[name].cast(pl.Float64)
        size = ours.abs().fill_null(1.0).clip(lower_bound=1.0)
        gap = float(((ours - theirs).abs() / size).fill_null(0.0).max() or 0.0)  # type: ignore[arg-type]
        gap = gap if (ours.is_null() == theirs.is_null()).all() else float("inf")
        if gap > limit and gap > largest:
            column = name
        largest = max(largest, gap)
    return largest, column


@_monitor("ranked_lists", "freshness", "no slice is overdue")
def _freshness(view: View) -> Finding:
    overdue = overdue_slices(SliceTables(view.lake, view.project), datetime.now(UTC))
    newest = view.lake.slices(LAST_TABLE)[-1:]
    missing = f"missing: {', '.join(overdue[:_MAX_NAMED])}" if overdue else "no slice is overdue"
    summary = f"newest slice {' '.join(newest) or 'none'}; {missing}"
    return Finding(not overdue, summary, {"missing": float(len(overdue))})


def overdue_slices(tables: SliceTables, now: datetime) -> list[str]:
    """Slices after the lake's newest that have been complete for `checks.max_delay` (default: a slice's length)."""
    project, stored = tables.project, tables.lake.slices(LAST_TABLE)
    now -= project.checks.max_delay or project.slices.every
    return complete(project.slices, project.labels.attribution, now, stored[-1] if stored else None)


@_monitor("topic_shifts", "bands", "rates and volumes by attribute are within their bands")
def _attribute_shift(view: View) -> Finding:
    lake, slices = view.lake, view.slices[-1:]
    table = lake.read("topic_shifts", slices)
    shifted = table.filter("shifted")
    if shifted.is_empty():
        tested = table["expected"].count()
        return Finding(True, f"{tested} figures of attribute values within their bands", {"shifted": 0.0})
    excess = (pl.col("mean") - pl.col("expected")) * pl.col("trials")
    largest = with_titles(shifted.sort(excess.abs(), descending=True).head(_MAX_NAMED), lake, slices[0])
    named = "; ".join(map(_described, largest.with_columns(excess=excess).iter_rows(named=True)))
    return Finding(False, f"figures outside their bands: {named}", {"shifted": float(shifted.height)})


def _described(shift: dict[str, Any]) -> str:
    """A shift in words: topic, size, since when, and typical texts."""
    texts = ", ".join(f"“{title[:_MAX_TITLE]}”" for title in shift["typical"])
    return (
        f"{shift['attribute']} {shift['value']}: {shift['figure'].replace('_', ' ')} {shift['mean']:.3f}, expected "
        f"{shift['expected']:.3f} ({shift['excess']:+.0f} of {shift['trials']:,} candidates), since {shift['since']}"
        + (f"; typical: {texts}" if texts else "")
    )


def monitors_of(config: Checks) -> list[Monitor]:
    """The built-in monitors and the project's own."""
    return [*extended(MONITORS, config.monitors, Monitor, "checks.monitors").values()]
