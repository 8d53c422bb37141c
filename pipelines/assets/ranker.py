"""Ranker: joins features and interest scores, fits, evaluates against baselines, and promotes."""

import dagster as dg
import polars as pl

from features.errors import ModelError
from models.evaluation.exposure import beyond_accuracy
from models.evaluation.exposure import exposure as exposure_of
from models.markdown import bullets
from models.registry.quality import points
from models.registry.ranker_card import EVALUATED, evaluated, ranker_card
from models.report import plots as figures
from pipelines import chain
from pipelines.deployment import Deployment
from pipelines.promoting import challenge
from pipelines.publish import WIDTH, picture, publish
from pipelines.reporting import with_family
from pipelines.retries import with_retries
from pipelines.triggers.partitions import ONE_RUN, before

_TABLES = {"polars", "deltalake"}


@dg.asset(
    group_name="ranker",
    kinds=_TABLES,
    deps=["candidates", "features", "interest_scores"],
    backfill_policy=ONE_RUN,
    pool="writer",
)
@with_retries
def ranking_dataset(context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """Candidates joined with their features and interest scores: the rows that rankers are fitted and evaluated on."""
    for slice in deployment.progress.track(context.partition_keys):
        candidates, features, scores = (
            deployment.lake.read(name, [slice]).drop("slice")
            for name in ("candidates", "features", "interest_scores")
        )
        publish(context, deployment, "ranking_dataset", slice, chain.assemble(candidates, features, scores))


@dg.asset(
    group_name="ranker",
    kinds={"lightgbm", "mlflow"},
    deps=["ranking_dataset"],
    backfill_policy=ONE_RUN,
    pool="trainer",
)
@with_retries
def ranker(context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """LightGBM on the trailing window, and its ablation without text; each slice registers a challenger."""
    project, registry = deployment.project, deployment.registry
    for slice in deployment.progress.track(context.partition_keys):
        window = chain.RankingWindow.ending(deployment.lake, slice, project.ranker.window)
        try:
            full, behaviour_only, examples, how = chain.fit_window(
                window, project, deployment.engine, deployment.scratch("rankers")
            )
        except ModelError as error:
            context.log.warning(f"no ranker for {slice}: {error}")
            context.add_asset_metadata({"skipped": str(error)}, partition_key=slice)
            continue
        next_slice = project.slices.key(project.slices.window(slice)[1])
        interest = deployment.latest("interest", next_slice, context.run.run_id)
        importance = with_family(full.importance(), project)
        figure = figures.importance_figure(importance, width=WIDTH)
        tags = {
            "interest_version": interest.version if interest else "none",
            "window": f"{window.slices[0]} … {window.slices[-1]}",
            **deployment.table_versions(),
            **how,
        }
        version = registry.register_ranker(
            full,
            slice,
            context.run.run_id,
            {
                f"validation_{full.info['validation_metric']}": full.info["validation"],
                "rounds": full.info["best_iteration"],
            },
            tags,
            project.ranker.model_dump(),
            examples,
            figures={"importance": figure},
            ablations={"behaviour_only": behaviour_only},
            card=ranker_card(registry.name("ranker"), full, project.labels, importance, tags),
            trained_on=[deployment.table("ranking_dataset")],
        )
        context.add_asset_metadata(
            {
                "version": version,
                "features": len(full.columns),
                "rounds": full.info["best_iteration"],
                "objective": full.info["objective"],
                f"validation_{full.info['validation_metric'].replace('@', '_at_')}": full.info["validation"],
                **how,
                "importance": picture(figure),
                "mlflow": dg.MetadataValue.url(
                    registry.url("ranker", version, deployment.settings.mlflow_url)
                ),
            },
            partition_key=slice,
        )
        deployment.progress.made(slice, f"version {version}, {full.info['best_iteration']} rounds")


@dg.asset(
    group_name="ranker",
    kinds=_TABLES,
    deps=["ranking_dataset", before("ranker"), before("moment_state")],
    backfill_policy=ONE_RUN,
    pool="writer",
)
@with_retries
def evaluation(context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """Prequential evaluation: the ranker fitted before this slice against every baseline on it."""
    project = deployment.project
    for slice in deployment.progress.track(context.partition_keys):
        version = deployment.latest("ranker", before=slice, dagster_run=context.run.run_id)
        if version is None:
            context.add_asset_metadata(
                {"skipped": "no ranker was fitted on earlier slices"}, partition_key=slice
            )
            continue
        state, events = deployment.state_before(slice), deployment.events(slice)
        scored = chain.score_slice(
            deployment.lake.read("ranking_dataset", [slice]).drop("slice"),
            deployment.registry.load_ranker(version.version),
            deployment.registry.load_ranker(version.version, "behaviour_only"),
            chain.background(state, events),
            project.seed,
        ).with_columns(ranker_version=pl.lit(version.version), ranker_slice=pl.lit(version.slice))
        deployment.lake.write("evaluation_scores", slice, scored)
        result = chain.evaluate_slice(
            scored, project.items.categorical, project.evaluation, project.promotion, project.seed
        )
        deployment.registry.amend_card(version.version, EVALUATED, evaluated(result, slice, version.version))
        deployment.registry.log_quality(
            version.version,
            project.slices.number(slice),
            points(result.table),
            deployment.table("ranking_dataset"),
        )
        means, headline = result.as_json()["scorers"], result.metrics.headline
        quality, without_text = (means[name][headline]["mean"] or 0.0 for name in ("full", "behaviour_only"))
        deployment.progress.made(slice, f"{headline} {quality:.3f}, without text {without_text:.3f}")
        publish(
            context, deployment, "evaluation", slice, result.table,
            {
                "impressions_evaluated": result.impressions,
                "ranker_version": version.version,
                "left_out": ", ".join(f"{name} ({count})" for name, count in result.left_out.items()),
                **{
                    f"{headline.replace('@', '_at_')}_{name}": means[name][headline]["mean"] or 0.0
                    for name in chain.SCORERS
                },
                "quality": picture(
                    figures.intervals_figure(result.table.filter(segment="all"), headline, WIDTH)
                ),
            },
        )  # fmt: skip


@dg.asset(
    group_name="ranker",
    kinds=_TABLES,
    deps=["evaluation", "item_vectors"],
    backfill_policy=ONE_RUN,
    pool="writer",
)
@with_retries
def exposure(context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """Beyond accuracy: which items get the first ranks, how novel and how diverse they are."""
    project = deployment.project
    for slice in deployment.progress.track(context.partition_keys):
        if not deployment.lake.has("evaluation_scores", slice):
            context.add_asset_metadata({"skipped": "nothing was evaluated"}, partition_key=slice)
            continue
        scored = deployment.lake.read("evaluation_scores", [slice])
        metrics = beyond_accuracy(scored, chain.SCORERS, deployment.vectors(slice), project.lists.k)
        deployment.lake.write("beyond_accuracy", slice, metrics)
        full = metrics.row(by_predicate=pl.col("scorer") == "full", named=True)
        publish(
            context, deployment, "exposure", slice,
            exposure_of(scored, chain.SCORERS, project.items.categorical, project.lists.k),
            {name: value for name, value in full.items() if isinstance(value, float)},
        )  # fmt: skip


@dg.asset(group_name="ranker", kinds={"mlflow"}, deps=["evaluation"], backfill_policy=ONE_RUN, pool="writer")
@with_retries
def promotion(context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """Compare champion and challenger on the same unseen impressions; promote the challenger if it passes the rule."""
    for slice in deployment.progress.track(context.partition_keys):
        outcome = challenge(deployment, slice)
        if isinstance(outcome, str):
            context.add_asset_metadata({"promoted": False, "reasons": outcome}, partition_key=slice)
            continue
        decision, promoted, row = outcome
        if decision.promote and not promoted:
            context.log.warning(
                "not promoted: the version was rolled back earlier, or the champion changed meanwhile; "
                "in that case run this slice's promotion again"
            )
        deployment.progress.made(
            slice, f"version {row['challenger'].item()} {'is champion' if promoted else 'is not promoted'}"
        )
        publish(
            context, deployment, "promotion", slice, row,
            {
                "promoted": promoted,
                "difference": decision.difference.mean,
                "calibration_error": decision.calibration_error,
                "guards": dg.MetadataValue.json([guard._asdict() for guard in decision.guards]),
                "reasons": dg.MetadataValue.md(bullets(decision.reasons)),
            },
        )  # fmt: skip
