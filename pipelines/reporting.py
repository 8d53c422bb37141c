"""What a run found: the report's tables and metrics.json, read back from the lake and the registry."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs

from features.catalogue import catalogue
from features.config.project import Project
from features.drift import drift
from features.ranking_dataset import feature_columns
from features.state.histories import SKIPPED
from models.evaluation.evaluate import ALL, EvaluationResult, calibration, calibration_error, difference
from models.evaluation.seed_variance import gain
from models.prequential import evaluate_slice
from models.registry.registry import Registry
from models.report.tables import RankedList, ReportData
from pipelines.compute.rankers import RankingWindow
from pipelines.deployment import Deployment
from pipelines.lake import STATE, Lake
from pipelines.requests import serving_until

_READERS, _PLACES = 4, 6  # users whose lists the page shows, and how far down
_DRIFT_ROWS = 200_000  # of the window that the last slice is held against


def evaluated(lake: Lake, project: Project, until: str) -> EvaluationResult | None:
    """Every evaluated slice up to one, together; None before anything was evaluated."""
    scores = _until(lake, "evaluation_scores", until)
    return evaluate_slice(scores, project) if scores.width else None


def metrics_of(deployment: Deployment, result: EvaluationResult | None) -> dict[str, Any]:
    """What metrics.json holds: figures only, so that two equal runs write the same file."""
    champion = deployment.champion()
    found = result.as_json() if result else {"impressions": 0, "headline": "ndcg@10", "scorers": {}}
    return {
        "project": deployment.project.name,
        **found,
        "segments": result.segments_as_json() if result else {},
        "champion": champion.slice if champion else None,
        "slices": deployment.lake.slices("candidates"),
    }


def page_of(deployment: Deployment, slice: str, name: str) -> Path:
    """Where a slice's `report.html` or `metrics.json` is. Only the newest slice's has that name."""
    path = deployment.settings.report(deployment.project.name) / name
    # A slice made again must not put an older page, or older figures, in place of the newest.
    newest = slice == deployment.lake.slices("candidates")[-1]
    return path if newest else path.with_stem(f"{path.stem}_{slice.replace(':', '')}")


def write_metrics(metrics: dict[str, Any], path: Path) -> None:
    """Write metrics.json; a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(metrics, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    draft.replace(path)


def report_data(deployment: Deployment, result: EvaluationResult | None, slice: str) -> ReportData:
    """Everything the page shows, as of a slice: nothing of later ones."""
    project, lake, serving = deployment.project, deployment.lake, serving_until(deployment, slice)
    ranker = deployment.registry.load_ranker(serving.version) if serving else None
    kept = lake.slices("candidates")
    every = result.table.filter(segment=ALL) if result else pl.DataFrame()
    calibrations, errors = _calibration(_until(lake, "evaluation_scores", slice))
    return ReportData(
        project=project.name,
        generated_at=datetime.now(UTC),
        slices=(kept[0], slice),
        confidence=project.promotion.confidence,
        headline=result.headline if result else "ndcg@10",
        evaluated=result.impressions if result else 0,
        overall=every,
        gain=_gains(result, project) if result else pl.DataFrame(),
        quality=_until(lake, "evaluation", slice).filter(segment=ALL) if result else pl.DataFrame(),
        segments=result.table.filter(pl.col("segment") != ALL) if result else pl.DataFrame(),
        segment_gain=_segment_gains(result, project) if result else pl.DataFrame(),
        min_impressions=project.evaluation.min_impressions,
        importance=with_family(ranker.importance(), project) if ranker else pl.DataFrame(),
        calibration=calibrations,
        calibration_errors=errors,
        exposure=_exposure(_until(lake, "exposure", slice)),
        attributes=project.items.categorical,
        beyond=_beyond(_until(lake, "beyond_accuracy", slice)),
        drift=_drift(lake, project, slice),
        volume=volume(lake, slice),
        rejects=_rejects(_until(lake, "rejects", slice)),
        lists=_lists(lake, slice),
        versions=_versions(deployment.registry, _until(lake, "promotion", slice), slice),
    )


def _until(lake: Lake, table: str, slice: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The slices of a table up to one; an empty frame where there is none."""
    slices = [key for key in lake.slices(table) if key <= slice]
    return lake.read(table, slices, columns) if slices else pl.DataFrame()


def _gains(result: EvaluationResult, project: Project) -> pl.DataFrame:
    """`metric, mean, low, high` of what text adds."""
    gains = gain(result, project.promotion, project.seed)
    return pl.DataFrame([{"metric": name, **interval} for name, interval in gains.items()])


def _segment_gains(result: EvaluationResult, project: Project) -> pl.DataFrame:
    """`segment, mean, low, high` of what text adds in each segment."""
    rule, names = project.promotion, result.table["segment"].unique(maintain_order=True)
    rows = [
        (
            name,
            *difference(
                result.values,
                "full",
                "behaviour_only",
                result.headline,
                seed=project.seed,
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


def with_family(importance: pl.DataFrame, project: Project) -> pl.DataFrame:
    """Adds each feature's `family`."""
    families = dict(catalogue(project).select("name", "family").iter_rows())
    return importance.with_columns(family=pl.col("feature").replace_strict(families, default="interest"))


def _calibration(scores: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`predictor, predicted, observed, count` of each bin, and `predictor, error, predicted, observed` in all."""
    if not scores.height:
        return pl.DataFrame(), pl.DataFrame()
    squeezed = scores.select(1 / (1 + (-pl.col("full")).exp())).to_series()
    bins, errors = [], []
    for name, predicted in {"Before": squeezed, "After": scores["click_probability"]}.items():
        found = calibration(predicted, scores["clicked"])
        bins.append(found.with_columns(predictor=pl.lit(name)))
        means = (predicted.mean(), scores["clicked"].mean())
        errors.append((name, calibration_error(found), *means))
    named = ["predictor", "error", "predicted", "observed"]
    return pl.concat(bins), pl.DataFrame(errors, schema=named, orient="row")


def _exposure(rows: pl.DataFrame) -> pl.DataFrame:
    """Shares of each value over all slices, by the full ranker, the commonest values of an attribute first."""
    if not rows.height:
        return pl.DataFrame()
    counts = ("candidates", "places", "clicks")
    together = rows.filter(scorer="full").group_by("attribute", "value").agg(pl.col(*counts).sum())
    shares = [(pl.col(name) / pl.col(name).sum().over("attribute")).alias(f"of_{name}") for name in counts]
    return (
        together.with_columns(shares)
        .fill_nan(None)
        .sort("attribute", "candidates", "value", descending=[False, True, False])
    )


def _beyond(rows: pl.DataFrame) -> pl.DataFrame:
    """Means over slices, a row a scorer."""
    return rows.group_by("scorer").agg(pl.col(pl.Float64).mean()).sort("scorer") if rows.height else rows


def _drift(lake: Lake, project: Project, slice: str) -> pl.DataFrame:
    """`column, meaning, psi` of the ranker's inputs: the slice against the window before it."""
    window = RankingWindow.ending(lake, slice, project.ranker.window).slices
    if len(window) < 2 or window[-1] != slice:
        return pl.DataFrame()
    reference, current = lake.read("ranking_dataset", window[:-1]), lake.read("ranking_dataset", [slice])
    columns = feature_columns(current)
    meanings = dict(catalogue(project).select("name", "meaning").iter_rows())
    meaning = pl.col("column").replace_strict(meanings, default="what the text says to the user")
    thinned = reference.gather_every(max(1, reference.height // _DRIFT_ROWS))
    return drift(thinned, current, columns).with_columns(meaning=meaning)


def volume(lake: Lake, slice: str) -> pl.DataFrame:
    """Rows of each kind and the click rate, a row a slice; of what nothing was read, 0 and no rate."""
    kinds = ("items", "impressions", "interactions", "rejects", "candidates")
    nothing = pl.DataFrame(schema={"slice": pl.String, "clicked": pl.Boolean})
    shown = pl.concat([nothing, _until(lake, "candidates", slice, ["slice", "clicked"])], how="diagonal")
    slices = [key for key in lake.slices("impressions") if key <= slice]
    every = pl.DataFrame({"slice": slices}, schema={"slice": pl.String})
    for name in kinds:
        rows = pl.concat([nothing, _until(lake, name, slice, ["slice"])], how="diagonal")
        count = rows.group_by("slice").agg(pl.len().alias(name))
        every = every.join(count, on="slice", how="left", maintain_order="left")
    rates = shown.group_by("slice").agg(click_rate=pl.col("clicked").mean())
    every = every.join(rates, on="slice", how="left", maintain_order="left")
    return every.with_columns(cs.integer().fill_null(0))


def _rejects(rows: pl.DataFrame) -> pl.DataFrame:
    """`reason, rows, first`: refused rows by reason, the commonest first, and where the first one stands."""
    if not rows.height:
        return pl.DataFrame()
    where = pl.format("{} line {}", pl.col("source").first(), pl.col("line").first())
    return (
        rows.group_by("reason", maintain_order=True)
        .agg(rows=pl.len(), first=where)
        .sort("rows", "reason", descending=[True, False])
    )


def _lists(lake: Lake, slice: str) -> list[RankedList]:
    if not lake.has("ranked_lists", slice):
        return []
    lists = lake.read("ranked_lists", [slice])
    moments = lake.read(f"{STATE}/moments", [slice])
    titles = lake.read(f"{STATE}/items", [slice], ["item_id", "title"])
    taken = moments.filter(pl.col("action") != SKIPPED).join(
        titles, on="item_id", how="left", maintain_order="left"
    )
    active = taken["user_id"].value_counts(sort=True).sort("count", "user_id", descending=[True, False])
    readers = [user for user in active["user_id"] if user in set(lists["user_id"])][:_READERS]
    return [
        RankedList(
            user=user,
            past=taken.filter(user_id=user)["title"]
            .drop_nulls()
            .reverse()
            .unique(maintain_order=True)
            .head(4)
            .to_list(),
            rows=lists.filter(pl.col("user_id") == user, pl.col("rank") <= _PLACES).select(
                "rank", "title", "rank_score", "click_probability", "reasons"
            ),
        )
        for user in readers
    ]


def _versions(registry: Registry, decided: pl.DataFrame, slice: str) -> pl.DataFrame:
    took_over = dict(decided.select("challenger", "promoted").iter_rows()) if decided.height else {}
    rows = [
        {
            "slice": version["slice"],
            "ranker": version["version"],
            "interest": version["tags"].get("interest_version", ""),
            "alias": ", ".join(version["aliases"]),
            "took_over": took_over.get(version["version"]),
            "decision": version["tags"].get("promotion", "not evaluated yet"),
        }
        for version in registry.versions("ranker")
        if version["slice"] <= slice
    ]
    return pl.DataFrame(rows[::-1], infer_schema_length=None)
