"""What a run found: the report's tables and metrics.json, read back from the lake and the registry."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from features.catalogue import catalogue
from features.moments import PASSED
from features.project import Project
from models.evaluation import Judgement, calibration
from models.judging import judge_slice
from models.report import RankedList, ReportData
from pipelines.deployment import Deployment

_READERS = 3  # users whose lists the page shows


def judged(deployment: Deployment, until: str) -> Judgement | None:
    """Every judged slice up to one, together; None before anything was judged."""
    slices = [key for key in deployment.lake.slices("evaluation_scores") if key <= until]
    if not slices:
        return None
    return judge_slice(deployment.lake.read("evaluation_scores", slices), deployment.project)


def metrics_of(deployment: Deployment, judgement: Judgement | None) -> dict[str, Any]:
    """What metrics.json holds: figures only, so that two equal runs write the same file."""
    champion = deployment.champion()
    found = judgement.as_json() if judgement else {"impressions": 0, "scorers": {}}
    segments = judgement.table["segment"].unique(maintain_order=True).to_list() if judgement else []
    return {
        "project": deployment.project.name,
        **found,
        "segments": {
            name: judgement.as_json(name)["scorers"] for name in segments if name != "all" and judgement
        },
        "champion": champion.slice if champion else None,
        "slices": deployment.lake.slices("candidates"),
    }


def write_metrics(metrics: dict[str, Any], path: Path) -> None:
    """Write metrics.json; a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(metrics, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    draft.replace(path)


def report_data(deployment: Deployment, judgement: Judgement | None, slice: str) -> ReportData:
    """Everything the page shows, as of a slice."""
    kept = deployment.lake.slices("candidates")
    everything = judgement.table.filter(segment="all") if judgement else pl.DataFrame()
    segments = judgement.table.filter(pl.col("segment") != "all") if judgement else pl.DataFrame()
    return ReportData(
        project=deployment.project.name,
        generated_at=datetime.now(UTC),
        slices=(kept[0], slice),
        overall=everything,
        quality=_table(deployment, "evaluation").filter(segment="all") if judgement else pl.DataFrame(),
        segments=segments,
        importance=_importance(deployment, slice),
        calibration=_calibration(deployment),
        lists=_lists(deployment, slice),
        versions=_versions(deployment),
        inputs=_inputs(deployment),
    )


def _table(deployment: Deployment, name: str) -> pl.DataFrame:
    slices = deployment.lake.slices(name)
    return deployment.lake.read(name, slices) if slices else pl.DataFrame()


def _importance(deployment: Deployment, slice: str) -> pl.DataFrame:
    serving = deployment.serving(slice)
    if serving is None:
        return pl.DataFrame()
    return with_family(deployment.registry.load_ranker(serving.version).importance(), deployment.project)


def with_family(importance: pl.DataFrame, project: Project) -> pl.DataFrame:
    """Adds each feature's `family`."""
    families = dict(catalogue(project).select("name", "family").iter_rows())
    return importance.with_columns(family=pl.col("feature").replace_strict(families, default="interest"))


def _calibration(deployment: Deployment) -> pl.DataFrame:
    """The interest score is a probability; the rank score is not, yet."""
    scores = _table(deployment, "evaluation_scores")
    return calibration(scores["text_only"], scores["clicked"]) if scores.height else pl.DataFrame()


def _lists(deployment: Deployment, slice: str) -> list[RankedList]:
    if not deployment.lake.has("ranked_lists", slice):
        return []
    lists = deployment.lake.read("ranked_lists", [slice])
    state = deployment.state_after(slice)
    taken = state.moments.filter(pl.col("action") != PASSED).join(
        state.items.select("item_id", "title"), on="item_id", how="left", maintain_order="left"
    )
    active = taken["user_id"].value_counts(sort=True).sort("count", "user_id", descending=[True, False])
    readers = [user for user in active["user_id"] if user in set(lists["user_id"])][:_READERS]
    return [
        RankedList(
            user=user,
            past=taken.filter(user_id=user)["title"].drop_nulls().tail(5).reverse().to_list(),
            rows=lists.filter(user_id=user).select(
                "rank", "title", "rank_score", "interest_score", "reasons"
            ),
        )
        for user in readers
    ]


def _versions(deployment: Deployment) -> pl.DataFrame:
    rows = [
        {
            "slice": version["slice"],
            "ranker": version["version"],
            "interest": version["tags"].get("interest_version", ""),
            "alias": ", ".join(version["aliases"]),
            "decision": version["tags"].get("promotion", "not judged yet"),
        }
        for version in deployment.registry.versions("ranker")
    ]
    return pl.DataFrame(rows)


def _inputs(deployment: Deployment) -> pl.DataFrame:
    counts = [
        _table(deployment, name).group_by("slice").agg(pl.len().alias(name))
        for name in ("items", "impressions", "interactions", "rejects")
        if deployment.lake.slices(name)
    ]
    slices = pl.DataFrame({"slice": deployment.lake.slices("impressions")}, schema={"slice": pl.String})
    for count in counts:
        slices = slices.join(count, on="slice", how="left", maintain_order="left")
    return slices.fill_null(0)
