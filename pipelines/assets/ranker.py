"""Ranker: behaviour and interest joined, fitted, judged beside its baselines, and promoted or not."""

import dagster as dg
import polars as pl

from features.errors import ModelError
from features.ranking_dataset import assemble
from models import figures
from models.judging import SCORERS, fit_rankers, judge_slice, promotion_values, score_slice
from models.promotion import decide
from pipelines.deployment import Deployment
from pipelines.publish import picture, publish
from pipelines.reporting import with_family
from pipelines.timetable import ONE_RUN, before

_TABLES = {"polars", "deltalake"}


@dg.asset(
    group_name="ranker",
    kinds=_TABLES,
    deps=["candidates", "features", "interest_scores"],
    backfill_policy=ONE_RUN,
)
def ranking_dataset(context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """Candidates, features and interest scores, row for row: what a ranker is fitted and judged on."""
    for slice in context.partition_keys:
        candidates, features, scores = (
            deployment.lake.read(name, [slice]).drop("slice")
            for name in ("candidates", "features", "interest_scores")
        )
        publish(context, deployment, "ranking_dataset", slice, assemble(candidates, features, scores))


@dg.asset(
    group_name="ranker",
    kinds={"lightgbm", "mlflow"},
    deps=["ranking_dataset"],
    backfill_policy=ONE_RUN,
    pool="trainer",
)
def ranker(context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """LambdaRank over the trailing window, and the same without text; each slice registers a challenger."""
    project, registry = deployment.project, deployment.registry
    for slice in context.partition_keys:
        window = deployment.window(slice, "ranking_dataset")
        dataset = deployment.lake.read("ranking_dataset", window)
        try:
            full, behaviour_only = fit_rankers(dataset, project)
        except ModelError as error:
            context.log.warning(f"no ranker for {slice}: {error}")
            context.add_asset_metadata({"skipped": str(error)}, partition_key=slice)
            continue
        interest = deployment.latest("interest", before=project.slices.key(project.slices.window(slice)[1]))
        version = registry.register_ranker(
            full,
            slice,
            context.run.run_id,
            {"validation_ndcg@10": full.info["validation_ndcg@10"], "rounds": full.info["best_iteration"]},
            {
                "interest_version": interest.version if interest else "none",
                "window": f"{window[0]} … {window[-1]}",
                **deployment.table_versions(),
            },
            project.ranker.model_dump(),
            dataset.head(5),
            ablations={"behaviour_only": behaviour_only},
        )
        context.add_asset_metadata(
            {
                "version": version,
                "features": len(full.columns),
                "rounds": full.info["best_iteration"],
                "validation_ndcg_at_10": full.info["validation_ndcg@10"],
                "importance": picture(figures.importance_figure(with_family(full.importance(), project))),
                "mlflow": dg.MetadataValue.url(
                    registry.url("ranker", version, deployment.settings.mlflow_url)
                ),
            },
            partition_key=slice,
        )
        deployment.tell(f"ranker {slice}: version {version}, {full.info['best_iteration']} rounds")


@dg.asset(
    group_name="ranker",
    kinds=_TABLES,
    deps=["ranking_dataset", before("ranker"), before("moment_state")],
    backfill_policy=ONE_RUN,
)
def evaluation(context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """Test, then train: how the ranker fitted before this slice orders it, beside every baseline."""
    project = deployment.project
    for slice in context.partition_keys:
        version = deployment.latest("ranker", before=slice)
        if version is None:
            context.add_asset_metadata({"skipped": "no ranker was fitted before"}, partition_key=slice)
            continue
        scored = score_slice(
            deployment.lake.read("ranking_dataset", [slice]).drop("slice"),
            deployment.registry.load_ranker(version.version),
            deployment.registry.load_ranker(version.version, "behaviour_only"),
            deployment.state_before(slice),
            project,
        )
        deployment.lake.write("evaluation_scores", slice, scored)
        judgement = judge_slice(scored, project)
        means = judgement.as_json()["scorers"]
        publish(
            context, deployment, "evaluation", slice, judgement.table,
            {
                "impressions_judged": judgement.impressions,
                **{f"ndcg_at_10_{name}": means[name]["ndcg@10"]["mean"] or 0.0 for name in SCORERS},
                "quality": picture(figures.intervals_figure(judgement.table.filter(segment="all"))),
            },
        )  # fmt: skip


@dg.asset(
    group_name="ranker", kinds={"mlflow"}, deps=["evaluation", before("ranker")], backfill_policy=ONE_RUN
)
def promotion(context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """Champion and challenger rescored on the same unseen lists; the challenger takes over if the rule says so."""
    project, registry = deployment.project, deployment.registry
    for slice in context.partition_keys:
        challenger = deployment.latest("ranker", before=slice)
        champion = deployment.champion()
        if challenger is None or (champion and champion.slice >= challenger.slice):
            reason = "the champion is as new as the challenger" if champion else "there is no challenger yet"
            context.add_asset_metadata({"promoted": False, "reasons": reason}, partition_key=slice)
            continue
        values = promotion_values(
            deployment.lake.read("ranking_dataset", [slice]),
            deployment.lake.read("evaluation_scores", [slice]),
            registry.load_ranker(champion.version) if champion else None,
        )
        decision = decide(values, project.promotion, project.seed, champion="champion" if champion else None)
        registry.tag("ranker", challenger.version, "promotion", " ".join(decision.reasons))
        if decision.promote:
            registry.promote(challenger.version)
        row = pl.DataFrame(
            {
                "challenger": [challenger.version],
                "champion_before": [champion.version if champion else None],
                "promoted": [decision.promote],
                "difference": [decision.difference.mean],
                "low": [decision.difference.low],
                "high": [decision.difference.high],
                "reasons": [" ".join(decision.reasons)],
            },
            schema_overrides={"champion_before": pl.String},
        )
        publish(
            context, deployment, "promotion", slice, row,
            {
                "promoted": decision.promote,
                "difference": decision.difference.mean,
                "reasons": dg.MetadataValue.md("\n".join(f"- {reason}" for reason in decision.reasons)),
            },
        )  # fmt: skip
