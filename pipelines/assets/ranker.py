"""Ranker: joins features and interest scores, fits, evaluates against baselines, and promotes."""

import dagster as dg
import polars as pl

from features.catalogue import catalogue
from features.errors import ModelError
from models.evaluation.experiment import verdict
from models.evaluation.exposure import beyond_accuracy
from models.evaluation.exposure import exposure as exposure_of
from models.markdown import bullets
from models.registry.quality import points
from models.registry.ranker_card import EVALUATED, evaluated, ranker_card
from models.report import plots as figures
from pipelines import chain
from pipelines.asset_steps import WIDTH, StepRun, picture, step
from pipelines.promoting import challenge, experiment_figures
from pipelines.reporting import with_family
from pipelines.triggers.partitions import before

_TABLES = {"polars", "deltalake"}


@step("ranker", _TABLES, ["candidates", "features", "interest_scores"])
def ranking_dataset(run: StepRun) -> None:
    """Candidates joined with their features and interest scores: the rows that rankers are fitted and evaluated on."""
    deployment = run.deployment
    for slice in run.track():
        candidates, features, scores = (
            deployment.lake.read(name, [slice]).drop("slice")
            for name in ("candidates", "features", "interest_scores")
        )
        run.publish("ranking_dataset", slice, chain.assemble(candidates, features, scores))


@step("ranker", {"lightgbm", "mlflow"}, ["ranking_dataset"], pool="trainer")
def ranker(run: StepRun) -> None:
    """LightGBM on the trailing window, and its ablation without text; each slice registers a challenger."""
    deployment = run.deployment
    project, registry = deployment.project, deployment.registry
    for slice in run.track():
        window = chain.RankingWindow.ending(deployment.lake, slice, project.ranker.window)
        try:
            full, behaviour_only, examples, how = chain.fit_window(
                window, project, deployment.engine, deployment.scratch("rankers")
            )
        except ModelError as error:
            run.context.log.warning(f"no ranker for {slice}: {error}")
            run.describe(slice, {"skipped": str(error)})
            continue
        next_slice = project.slices.following(slice)
        interest = deployment.registry.latest("interest", next_slice, run.id)
        importance = with_family(full.importance(), catalogue(project.behaviour))
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
            run.id,
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
        run.describe(
            slice,
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
        )
        deployment.progress.made(slice, f"version {version}, {full.info['best_iteration']} rounds")


@step("ranker", _TABLES, ["ranking_dataset", before("ranker"), before("moment_state")])
def evaluation(run: StepRun) -> None:
    """Prequential evaluation: the ranker fitted before this slice against every baseline on it."""
    deployment, project = run.deployment, run.deployment.project
    for slice in run.track():
        version = deployment.registry.latest("ranker", before=slice, dagster_run=run.id)
        if version is None:
            run.describe(slice, {"skipped": "no ranker was fitted on earlier slices"})
            continue
        state, events = deployment.slices.state_before(slice), deployment.slices.events(slice)
        scored = chain.score_slice(
            deployment.lake.read("ranking_dataset", [slice]).drop("slice"),
            deployment.registry.load_ranker(version.version),
            deployment.registry.load_ranker(version.version, "behaviour_only"),
            chain.background(state, events, project.evaluation),
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
        run.publish("evaluation", slice, result.table,
            {
                "impressions_evaluated": result.impressions,
                "ranker_version": version.version,
                "left_out": ", ".join(f"{name} ({count})" for name, count in result.left_out.items()),
                **{
                    f"{headline.replace('@', '_at_')}_{name}": means[name][headline]["mean"] or 0.0
                    for name in chain.scorers(project.evaluation)
                },
                "quality": picture(
                    figures.intervals_figure(result.table.filter(segment="all"), headline, WIDTH)
                ),
            },
        )  # fmt: skip


@step("ranker", _TABLES, ["evaluation", "item_vectors"])
def exposure(run: StepRun) -> None:
    """Beyond accuracy: which items get the first ranks, how novel and how diverse they are."""
    deployment, project = run.deployment, run.deployment.project
    for slice in run.track():
        if not deployment.lake.has("evaluation_scores", slice):
            run.describe(slice, {"skipped": "nothing was evaluated"})
            continue
        scored = deployment.lake.read("evaluation_scores", [slice])
        metrics = beyond_accuracy(
            scored, chain.scorers(project.evaluation), deployment.slices.vectors(slice), project.lists.k
        )
        deployment.lake.write("beyond_accuracy", slice, metrics)
        full = metrics.row(by_predicate=pl.col("scorer") == "full", named=True)
        run.publish("exposure", slice,
            exposure_of(scored, chain.scorers(project.evaluation), project.items.categorical, project.lists.k),
            {name: value for name, value in full.items() if isinstance(value, float)},
        )  # fmt: skip


@step("ranker", {"mlflow"}, ["evaluation"])
def promotion(run: StepRun) -> None:
    """Compare champion and challenger on the same unseen impressions; promote the challenger if it passes the rule."""
    deployment = run.deployment
    for slice in run.track():
        outcome = challenge(deployment.slices, deployment.registry, slice)
        if isinstance(outcome, str):
            run.describe(slice, {"promoted": False, "reasons": outcome})
            continue
        decision, promoted, row = outcome
        if decision.promote and not promoted:
            run.context.log.warning(
                "not promoted: the version was rolled back earlier, or the champion changed meanwhile; "
                "in that case run this slice's promotion again"
            )
        deployment.progress.made(
            slice, f"version {row['challenger'].item()} {'is champion' if promoted else 'is not promoted'}"
        )
        run.publish("promotion", slice, row,
            {
                "promoted": promoted,
                "difference": decision.difference.mean,
                "calibration_error": decision.calibration_error,
                "guards": dg.MetadataValue.json([guard._asdict() for guard in decision.guards]),
                "reasons": dg.MetadataValue.md(bullets(decision.reasons)),
            },
        )  # fmt: skip


@step("ranker", _TABLES, ["candidates"])
def experiment(run: StepRun) -> None:
    """Challenger against champion on the users assigned to them, from the experiment's start to each slice."""
    for slice in run.track():
        figures = experiment_figures(run.deployment.slices, slice)
        if figures is None:
            reason = "no experiment in this slice: [experiment] in the project file starts one"
            run.describe(slice, {"skipped": reason})
            run.deployment.progress.made(slice, reason.partition(":")[0])
            continue
        run.publish("experiment", slice, figures, {"verdict": verdict(figures)})
        run.deployment.progress.made(slice, verdict(figures))
