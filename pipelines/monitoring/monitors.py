"""What is worth watching from slice to slice: each monitor compares a run's slices with those before them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl
import polars.selectors as cs

from features.behaviour import read_features
from features.config.project import Project
from features.config.sections import Checks
from features.drift import drift
from features.schemas import Interactions, Items
from features.state import SliceEvents
from pipelines.deployment import Deployment
from pipelines.lake import Lake
from pipelines.monitoring.anomalies import click_noise, cosine_distance, unusual
from pipelines.requests import state_at
from pipelines.triggers.partitions import LAST_TABLE, complete

_ROWS = 5_000
"""Most rows of each side in a comparison of distributions: chance then moves the index by about 0.004."""
_NAMED = 5


@dataclass(frozen=True)
class Finding:
    """What a monitor saw."""

    holds: bool
    said: str
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """The slices of a run, in order, and what the monitors need to compare them."""

    deployment: Deployment
    slices: Sequence[str]

    @property
    def checks(self) -> Checks:
        """The project's thresholds."""
        return self.deployment.project.checks

    def before(self, table: str) -> list[str]:
        """The trailing slices of a table before the newest one."""
        return [k for k in self.deployment.lake.slices(table) if k < self.slices[-1]][-self.checks.trailing :]

    def series(self, table: str, **figures: pl.Expr) -> pl.DataFrame:
        """Figures of every slice of a table up to the newest: `slice` and one column a figure."""
        lake = self.deployment.lake
        rows = lake.scan(table, [key for key in lake.slices(table) if key <= self.slices[-1]])
        return rows.group_by("slice").agg(**figures).collect().sort("slice")


@dataclass(frozen=True)
class Monitor:
    """A sentence about how a table goes on from slice to slice."""

    asset: str
    name: str
    sentence: str
    look: Callable[[View], Finding]
    level: str = "warn"


_TOO_FEW = Finding(True, "there are too few slices to compare with")


def _volume(view: View) -> Finding:
    counts = view.series("impressions", rows=pl.len())
    return _outliers(view, dict(counts.iter_rows()), "lists", {})


def _click_rate(view: View) -> Finding:
    clicked = pl.col("clicked")
    told = view.series("candidates", rate=clicked.mean(), shown=pl.len())
    noise = {key: click_noise(rate or 0.0, shown) for key, rate, shown in told.iter_rows()}
    rates = {key: rate for key, rate, _ in told.iter_rows() if rate is not None}
    return _outliers(view, rates, "clicks a candidate", noise)


def _outliers(view: View, values: dict[str, float], what: str, noise: dict[str, float]) -> Finding:
    checks = view.checks
    found = unusual(values, view.slices, checks.anomaly, checks.trailing, checks.min_history, noise)
    now = values.get(view.slices[-1], 0.0)
    if not found:
        return Finding(True, f"{now:.4g} {what} in {view.slices[-1]}", {"newest": float(now)})
    told = ", ".join(f"{key}: {values[key]:.4g} (z {z:+.1f})" for key, z in [*found.items()][:_NAMED])
    return Finding(False, f"{what} unlike the slices before: {told}", {"newest": float(now)})


def _unknown_items(view: View) -> Finding:
    lake = view.deployment.lake
    until = [key for key in lake.slices("items") if key <= view.slices[-1]]
    known = lake.scan("items", until).select("item_id").unique()
    shown = lake.scan("candidates", view.slices).select("item_id")
    unknown = shown.join(known, on="item_id", how="anti").select(pl.len()).collect().item()
    return _share(
        unknown, shown.select(pl.len()).collect().item(), view.checks.unknown_items, "candidates unknown"
    )


def _no_text(view: View) -> Finding:
    items = view.deployment.lake.read("items", view.slices, ["title", "body"])
    empty = items.filter((pl.col("title") == "") & (pl.col("body").fill_null("") == "")).height
    return _share(empty, items.height, view.checks.no_text, "item versions without text")


def _rejected(view: View) -> Finding:
    lake = view.deployment.lake
    refused, kept = (
        sum(lake.read(name, view.slices, ["slice"]).height for name in names)
        for names in (["rejects"], ["items", "impressions", "interactions"])
    )
    return _share(refused, refused + kept, view.checks.rejected, "rows refused")


def _share(part: int, whole: int, most: float, what: str) -> Finding:
    share = part / whole if whole else 0.0
    return Finding(
        share <= most, f"{part:,} of {whole:,} {what}: {share:.2%}, at most {most:.2%}", {"share": share}
    )


def _feature_drift(view: View) -> Finding:
    names = view.deployment.lake.scan("features").collect_schema()
    forms = tuple(f"_{form}" for form in view.deployment.project.features.relative)
    # What only grows, and what is compared within its list, says nothing of a change between slices.
    columns = [
        name
        for name, dtype in names.items()
        if dtype.is_float() and not name.endswith(forms) and "_all" not in name
    ]
    return _drifted(view, "features", columns)


def _score_drift(view: View) -> Finding:
    return _drifted(view, "interest_scores", ["interest_score"])


def _drifted(view: View, table: str, columns: list[str]) -> Finding:
    before, checks = view.before(table), view.checks
    if len(before) <= checks.min_history:
        return _TOO_FEW
    lake = view.deployment.lake
    past, last, now = (
        _sample(lake.read(table, slices, columns)) for slices in (before[:-1], before[-1:], view.slices[-1:])
    )
    # A day of the week, or the rate of one topic, is never what it was: only more than usual is worth a word.
    usual = dict(drift(past, last, columns).fill_null(0.0).iter_rows())
    moved = drift(pl.concat([past, last]), now, columns).sort("psi", descending=True, nulls_last=True)
    psi = [(name, value) for name, value in moved.iter_rows() if value is not None]
    beyond = [
        (name, value)
        for name, value in psi
        if value > max(checks.max_psi, checks.max_psi_ratio * usual[name])
    ]
    shown = ", ".join(
        f"{name} {value:.2f} after {usual[name]:.2f}" for name, value in (beyond or psi)[:_NAMED]
    )
    told = f"{len(beyond)} of {len(columns)} columns beyond {checks.max_psi:g} and the slice before; most: {shown}"
    return Finding(not beyond, told, {"most": psi[0][1] if psi else 0.0, "columns": float(len(beyond))})


def _sample(table: pl.DataFrame) -> pl.DataFrame:
    return table.gather_every(max(1, table.height // _ROWS))


def _text_drift(view: View) -> Finding:
    before = view.before("item_vectors")
    if len(before) < view.checks.min_history:
        return _TOO_FEW
    lake = view.deployment.lake
    now, then = (
        _mean_vector(lake.read("item_vectors", slices, ["vector"])) for slices in (view.slices[-1:], before)
    )
    if now is None or then is None:
        return Finding(True, "no item came with a text")
    distance = cosine_distance(now, then)
    told = f"mean texts lie {distance:.3f} apart, at most {view.checks.text_drift:g}"
    return Finding(distance <= view.checks.text_drift, told, {"distance": distance})


def _mean_vector(table: pl.DataFrame) -> pl.Series | None:
    if table.is_empty():
        return None
    size = len(table["vector"][0])
    return pl.Series(table["vector"].list.to_array(size).to_numpy().mean(axis=0), dtype=pl.Float64)


def _calibration(view: View) -> Finding:
    lake = view.deployment.lake
    kept = [key for key in view.slices if lake.has("evaluation_scores", key)]
    if not kept:
        return Finding(True, "nothing was evaluated yet")
    scores = lake.read("evaluation_scores", kept[-1:], ["click_probability", "clicked"])
    if scores.is_empty():
        return Finding(True, f"no list was evaluated in {kept[-1]}")
    told, came = scores.select(pl.col("click_probability").mean(), pl.col("clicked").mean()).row(0)
    said = f"{told:.4f} foretold, {came:.4f} taken in {kept[-1]}; at most {view.checks.calibration:g} apart"
    return Finding(abs(told - came) <= view.checks.calibration, said, {"difference": float(told - came)})


def _served_alike(view: View) -> Finding:
    """Past lists of the newest slice, read as a request at their instants would read them."""
    deployment, slice = view.deployment, view.slices[-1]
    shown = deployment.lake.read("impressions", [slice]).drop("slice").sort("shown_at", "impression_id")
    # A request is answered from the state that a slice left behind.
    if shown.is_empty() or not view.checks.requests or not deployment.project.slices.previous(slice):
        return Finding(True, "no list to compare")
    lists = shown.gather_every(max(1, shown.height // view.checks.requests)).tail(view.checks.requests)
    vectors = deployment.vectors(slice)
    nothing = Items.create_empty(), Interactions.create_empty()
    live = [
        read_features(
            state_at(deployment, request["shown_at"][0]),
            SliceEvents(nothing[0], request, nothing[1]),
            deployment.project,
            vectors,
        )
        for request in lists.iter_slices(1)
    ]
    ids = lists["impression_id"].implode()
    kept = deployment.lake.scan("features", [slice]).filter(pl.col("impression_id").is_in(ids))
    most, where = furthest(kept.drop("slice").collect(), pl.concat(live), view.checks.max_difference)
    told = f"{lists.height} lists read again: at most {most:.1e} apart" + (f", in {where}" if where else "")
    return Finding(not where, told, {"difference": most})


def furthest(kept: pl.DataFrame, live: pl.DataFrame, limit: float) -> tuple[float, str]:
    """Greatest difference of any number of two features tables, and the column where it is beyond `limit`, or "".

    A difference is relative to the number where that is above 1; one that is missing on one side is infinite.
    """
    keys = ["impression_id", "item_id"]
    one, other = kept.sort(keys), live.select(kept.columns).sort(keys)
    if not one.select(keys).equals(other.select(keys)):
        return float("inf"), "their candidates"
    most, where = 0.0, ""
    for name in one.select(cs.numeric()).columns:
        ours, theirs = one[name].cast(pl.Float64), other[name].cast(pl.Float64)
        size = ours.abs().fill_null(1.0).clip(lower_bound=1.0)
        gap = float(((ours - theirs).abs() / size).fill_null(0.0).max() or 0.0)  # type: ignore[arg-type]
        gap = gap if (ours.is_null() == theirs.is_null()).all() else float("inf")
        if gap > limit and gap > most:
            where = name
        most = max(most, gap)
    return most, where


def _fresh(view: View) -> Finding:
    overdue = overdue_slices(view.deployment.lake, view.deployment.project, datetime.now(UTC))
    newest = view.deployment.lake.slices(LAST_TABLE)[-1:]
    told = f"missing: {', '.join(overdue[:_NAMED])}" if overdue else "the lake is as new as it can be"
    return Finding(
        not overdue, f"newest slice {' '.join(newest) or 'none'}; {told}", {"missing": float(len(overdue))}
    )


def overdue_slices(lake: Lake, project: Project, now: datetime) -> list[str]:
    """Slices newer than the lake's that could have been run more than `checks.max_delay` (by default a slice) ago."""
    kept = lake.slices(LAST_TABLE)
    newest = kept[-1] if kept else None
    return complete(project, now - (project.checks.max_delay or project.slices.every), after=newest)


def _topics(view: View) -> Finding:
    table = view.deployment.lake.read("topic_shifts", view.slices[-1:])
    shifted = table.filter("shifted").sort((pl.col("rate") - pl.col("expected")).abs(), descending=True)
    if shifted.is_empty():
        return Finding(True, f"{table.height} values within their bands", {"shifted": 0.0})
    rows = shifted.head(_NAMED).select("attribute", "value", "rate", "expected").iter_rows()
    told = ", ".join(f"{name} {value}: {rate:.3f}, not {usual:.3f}" for name, value, rate, usual in rows)
    return Finding(False, f"clicks moved: {told}", {"shifted": float(shifted.height)})


MONITORS: Sequence[Monitor] = (
    Monitor("impressions", "volume", "as many lists are shown as before", _volume),
    Monitor("candidates", "click_rate", "as much is taken as before", _click_rate),
    Monitor("candidates", "known_items", "the logs describe what is shown", _unknown_items),
    Monitor("items", "text", "items come with text", _no_text),
    Monitor("rejects", "few", "few rows are refused", _rejected),
    Monitor("features", "drift", "features are spread as before", _feature_drift),
    Monitor("features", "served_alike", "a live request reads what the training data holds", _served_alike),
    Monitor("item_vectors", "drift", "new texts are about what texts were about before", _text_drift),
    Monitor("interest_scores", "drift", "interest scores are spread as before", _score_drift),
    Monitor("evaluation", "calibration", "as many clicks come as were foretold", _calibration),
    Monitor("topic_shifts", "steady", "people take what they took before", _topics),
    Monitor("ranked_lists", "fresh", "no slice that could be run is missing", _fresh),
)
"""All of them, with what each does unless `[checks.level]` says otherwise."""
