"""The data of the report and metrics.json, read from the lake and the registry."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs

from features.atomic import replacing
from features.catalogue import catalogue
from features.config.sections import Promotion
from features.drift import drift
from features.ranking_dataset import feature_columns
from features.state.histories import SKIPPED
from models.evaluation.evaluate import ALL, EvaluationResult, calibration, calibration_error, difference
from models.evaluation.metrics import LISTWISE
from models.evaluation.seed_variance import gain
from models.prequential import evaluate_slice
from models.registry.registry import Registry
from models.registry.versions import Version
from models.report.report_data import RankedList, ReportData
from pipelines.compute.rankers import RankingWindow
from pipelines.lake import STATE, Lake
from pipelines.requests import serving_until
from pipelines.slice_tables import SliceTables

_USERS, _TOP = 4, 6  # users whose ranked lists the report shows; items of each list
_DRIFT_ROWS = 200_000  # at most, of the window that the last slice is compared with


def evaluated(tables: SliceTables, until: str) -> EvaluationResult | None:
    """The evaluation over all slices up to `until`; None if none was evaluated."""
    scores, project = _until(tables.lake, "evaluation_scores", until), tables.project
    return (
        evaluate_slice(scores, project.items.categorical, project.evaluation, project.promotion, project.seed)
        if scores.width
        else None
    )


def metrics_of(
    tables: SliceTables, champion: Version | None, result: EvaluationResult | None
) -> dict[str, Any]:
    """The content of metrics.json. It has no times or run ids: equal runs write equal files."""
    metrics = result.as_json() if result else {"impressions": 0, "headline": LISTWISE.headline, "scorers": {}}
    return {
        "project": tables.project.name,
        **metrics,
        "segments": result.segments_as_json() if result else {},
        "champion": champion.slice if champion else None,
        "slices": tables.lake.slices("candidates"),
    }


def page_of(folder: Path, lake: Lake, slice: str, name: str) -> Path:
    """Path of a slice's `report.html` or `metrics.json`. All but the newest slice's have the slice in their name."""
    path = folder / name
    # Running an old slice again must not replace the newest report or metrics.
    newest = slice == lake.slices("candidates")[-1]
    return path if newest else path.with_stem(f"{path.stem}_{slice.replace(':', '')}")


def write_metrics(metrics: dict[str, Any], path: Path) -> None:
    """Write metrics.json atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        draft.write_text(json.dumps(metrics, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def report_data(
    tables: SliceTables, registry: Registry, result: EvaluationResult | None, slice: str
) -> ReportData:
    """Everything the report shows, from slices up to this one only."""
    project, lake = tables.project, tables.lake
    serving, columns = serving_until(registry, project.slices, slice), catalogue(project.behaviour)
    ranker = registry.load_ranker(serving.version) if serving else None
    slices = lake.slices("candidates")
    overall = result.table.filter(segment=ALL) if result else pl.DataFrame()
    calibrations, errors = _calibration(_until(lake, "evaluation_scores", slice))
    return ReportData(
        project=project.name,
        generated_at=datetime.now(UTC),
        slices=(slices[0], slice),
        confidence=project.promotion.confidence,
        headline=(result.metrics if result else LISTWISE).headline,
        evaluated=result.impressions if result else 0,
        overall=overall,
        gain=_gains(result, project.promotion, project.seed) if result else pl.DataFrame(),
        quality=_until(lake, "evaluation", slice).filter(segment=ALL) if result else pl.DataFrame(),
        segments=result.table.filter(pl.col("segment") != ALL) if result else pl.DataFrame(),
        segment_gain=_segment_gains(result, project.promotion, project.seed) if result else pl.DataFrame(),
        min_impressions=project.evaluation.min_impressions,
        importance=with_family(ranker.importance(), columns) if ranker else pl.DataFrame(),
        calibration=calibrations,
        calibration_errors=errors,
        exposure=_exposure(_until(lake, "exposure", slice)),
        attributes=project.items.categorical,
        beyond=_beyond(_until(lake, "beyond_accuracy", slice)),
        topics=_topics(lake, slice),
        drift=_drift(lake, RankingWindow.ending(lake, slice, project.ranker.window).slices, slice, columns),
        volume=volume(lake, slice),
        rejects=_rejects(_until(lake, "rejects", slice)),
        lists=_lists(lake, slice),
        versions=_versions(registry, _until(lake, "promotion", slice), slice),
    )


def _until(lake: Lake, table: str, slice: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Rows of a table's slices up to this one; an empty frame if it has none."""
    slices = [key for key in lake.slices(table) if key <= slice]
    return lake.read(table, slices, columns) if slices else pl.DataFrame()


def _gains(result: EvaluationResult, rule: Promotion, seed: int) -> pl.DataFrame:
    """The gain from text: `metric, mean, low, high`."""
    gains = gain(result, rule, seed)
    return pl.DataFrame([{"metric": name, **interval} for name, interval in gains.items()])


def _segment_gains(result: EvaluationResult, rule: Promotion, seed: int) -> pl.DataFrame:
    """The gain from text in each segment: `segment, mean, low, high`."""
    names = result.table["segment"].unique(maintain_order=True)
    rows = [
        (
            name,
            *difference(
                result.values,
                "full",
                "behaviour_only",
                result.metrics.headline,
                seed=seed,
                resamples=rule.resamples,
                confidence=rule.confidence,
                segment=name,
            ),
        )
        for name in names
        if name != ALL
    ]
    schema = {"segment": pl.String, "mean": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row").fill_nan(None)


def with_family(importance: pl.DataFrame, columns: pl.DataFrame) -> pl.DataFrame:
    """Adds each feature's `family`; `columns` is the catalogue."""
    families = dict(columns.select("name", "family").iter_rows())
    return importance.with_columns(family=pl.col("feature").replace_strict(families, default="interest"))


def _calibration(scores: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Calibration: `predictor, predicted, observed, count` per bin; `predictor, error, predicted, observed` overall."""
    if not scores.height:
        return pl.DataFrame(), pl.DataFrame()
    sigmoid = scores.select(1 / (1 + (-pl.col("full")).exp())).to_series()
    bins, errors = [], []
    for name, predicted in {"Before": sigmoid, "After": scores["click_probability"]}.items():
        curve = calibration(predicted, scores["clicked"])
        bins.append(curve.with_columns(predictor=pl.lit(name)))
        means = (predicted.mean(), scores["clicked"].mean())
        errors.append((name, calibration_error(curve), *means))
    schema = ["predictor", "error", "predicted", "observed"]
    return pl.concat(bins), pl.DataFrame(errors, schema=schema, orient="row")


def _exposure(rows: pl.DataFrame) -> pl.DataFrame:
    """The full ranker's exposure per attribute value over all slices, most frequent values first."""
    if not rows.height:
        return pl.DataFrame()
    counts = {"candidates": "candidates", "positions": "places", "clicks": "clicks"}
    totals = rows.filter(scorer="full").group_by("attribute", "value").agg(pl.col(*counts.values()).sum())
    shares = {
        f"share_of_{name}": pl.col(count) / pl.col(count).sum().over("attribute")
        for name, count in counts.items()
    }
    return (
        totals.with_columns(**shares)
        .fill_nan(None)
        .sort("attribute", "candidates", "value", descending=[False, True, False])
    )


def _topics(lake: Lake, slice: str) -> pl.DataFrame:
    """The table `topic_shifts`, with titles of typical items instead of ids."""
    rows = _until(lake, "topic_shifts", slice)
    return with_titles(rows, lake, slice) if rows.height else rows


def with_titles(shifts: pl.DataFrame, lake: Lake, slice: str) -> pl.DataFrame:
    """`topic_shifts` with the titles of typical items, as of the end of a slice, instead of their ids."""
    items = lake.scan(f"{STATE}/items", [slice]).select("item_id", "title")
    ids = shifts["typical"].explode().drop_nulls().unique()
    titles = dict(items.filter(pl.col("item_id").is_in(ids.implode())).collect().iter_rows())
    named = pl.element().replace_strict(titles, default=None, return_dtype=pl.String).drop_nulls()
    return shifts.with_columns(pl.col("typical").list.eval(named))


def _beyond(rows: pl.DataFrame) -> pl.DataFrame:
    """Mean over slices, one row per scorer."""
    return rows.group_by("scorer").agg(pl.col(pl.Float64).mean()).sort("scorer") if rows.height else rows


def _drift(lake: Lake, window: Sequence[str], slice: str, catalogued: pl.DataFrame) -> pl.DataFrame:
    """Drift of the ranker's inputs, the slice against the window before it: `column, meaning, psi`."""
    if len(window) < 2 or window[-1] != slice:
        return pl.DataFrame()
    reference, current = lake.read("ranking_dataset", window[:-1]), lake.read("ranking_dataset", [slice])
    columns = feature_columns(current)
    meanings = dict(catalogued.select("name", "meaning").iter_rows())
    meaning = pl.col("column").replace_strict(meanings, default="what the text says to the user")
    sample = reference.gather_every(max(1, reference.height // _DRIFT_ROWS))
    return drift(sample, current, columns).with_columns(meaning=meaning)


def volume(lake: Lake, slice: str) -> pl.DataFrame:
    """Row counts per table and the click rate, one row per slice; without rows the count is 0 and the rate null."""
    kinds = ("items", "impressions", "interactions", "rejects", "candidates")
    empty = pl.DataFrame(schema={"slice": pl.String, "clicked": pl.Boolean})
    candidates = pl.concat([empty, _until(lake, "candidates", slice, ["slice", "clicked"])], how="diagonal")
    slices = [key for key in lake.slices("impressions") if key <= slice]
    volume = pl.DataFrame({"slice": slices}, schema={"slice": pl.String})
    for name in kinds:
        rows = pl.concat([empty, _until(lake, name, slice, ["slice"])], how="diagonal")
        count = rows.group_by("slice").agg(pl.len().alias(name))
        volume = volume.join(count, on="slice", how="left", maintain_order="left")
    rates = candidates.group_by("slice").agg(click_rate=pl.col("clicked").mean())
    volume = volume.join(rates, on="slice", how="left", maintain_order="left")
    return volume.with_columns(cs.integer().fill_null(0))


def _rejects(rows: pl.DataFrame) -> pl.DataFrame:
    """Rejected rows by reason, most frequent first: `reason, rows, first` (file and line of the first)."""
    if not rows.height:
        return pl.DataFrame()
    first = pl.format("{} line {}", pl.col("source").first(), pl.col("line").first())
    return (
        rows.group_by("reason", maintain_order=True)
        .agg(rows=pl.len(), first=first)
        .sort("rows", "reason", descending=[True, False])
    )


def _lists(lake: Lake, slice: str) -> list[RankedList]:
    """Ranked lists of the users with most interactions, with the titles of their latest items."""
    if not lake.has("ranked_lists", slice):
        return []
    lists = lake.read("ranked_lists", [slice])
    moments = lake.read(f"{STATE}/moments", [slice])
    titles = lake.read(f"{STATE}/items", [slice], ["item_id", "title"])
    interactions = moments.filter(pl.col("action") != SKIPPED).join(
        titles, on="item_id", how="left", maintain_order="left"
    )
    active = (
        interactions["user_id"].value_counts(sort=True).sort("count", "user_id", descending=[True, False])
    )
    users = [user for user in active["user_id"] if user in set(lists["user_id"])][:_USERS]
    return [
        RankedList(
            user=user,
            past=interactions.filter(user_id=user)["title"]
            .drop_nulls()
            .reverse()
            .unique(maintain_order=True)
            .head(4)
            .to_list(),
            rows=lists.filter(pl.col("user_id") == user, pl.col("rank") <= _TOP).select(
                "rank", "title", "rank_score", "click_probability", "reasons"
            ),
        )
        for user in users
    ]


def _versions(registry: Registry, decisions: pl.DataFrame, slice: str) -> pl.DataFrame:
    promoted = dict(decisions.select("challenger", "promoted").iter_rows()) if decisions.height else {}
    rows = [
        {
            "slice": version["slice"],
            "ranker": version["version"],
            "interest": version["tags"].get("interest_version", ""),
            "alias": ", ".join(version["aliases"]),
            "took_over": promoted.get(version["version"]),
            "decision": version["tags"].get("promotion", "not evaluated yet"),
        }
        for version in registry.versions("ranker")
        if version["slice"] <= slice
    ]
    return pl.DataFrame(rows[::-1], infer_schema_length=None)
