"""Interest: a text encoder and a moment decoder, fine-tuned slice by slice to predict what users do next."""

import shutil
from typing import Any

import dagster as dg

from features.schemas import InterestScores, ItemVectors
from features.state import start
from models.registry.interest_card import interest_card
from pipelines import chain
from pipelines.compute.scorers import Scored, Scorer, score_with_actors
from pipelines.deployment import Deployment, Version
from pipelines.file_lock import file_lock
from pipelines.publish import publish, show
from pipelines.retries import with_retries
from pipelines.triggers.partitions import ONE_RUN, before

_EVENTS: list[str | dg.AssetDep] = ["items", "impressions", "interactions", before("moment_state")]


@dg.asset(
    group_name="interest",
    kinds={"huggingface", "deltalake"},
    deps=["items"],
    backfill_policy=ONE_RUN,
    pool="writer",
)
@with_retries
def item_vectors(context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """Text vectors of the items from the frozen encoder, for similarity to what a user clicked before."""
    for slice in deployment.progress.track(context.partition_keys):
        items = deployment.lake.read("items", [slice])
        table = chain.item_vectors(items, deployment.project.interest, deployment.settings.cache)
        publish(context, deployment, "item_vectors", slice, ItemVectors.validate(table))


@dg.asset(
    group_name="interest",
    kinds={"pytorch", "mlflow"},
    deps=[*_EVENTS, "candidates", before("interest_model")],
    backfill_policy=ONE_RUN,
    pool="trainer",
)
@with_retries
def interest_model(context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """The interest model after this slice: the previous version, fine-tuned on the slice's interactions."""
    project, registry = deployment.project, deployment.registry
    for slice in deployment.progress.track(context.partition_keys):
        labels = deployment.lake.read("candidates", [slice])
        if not labels["clicked"].any():
            context.add_asset_metadata({"skipped": "nothing was clicked in this slice"}, partition_key=slice)
            continue
        data = chain.interest_input(deployment.state_before(slice), deployment.events(slice), labels)
        # Two runs of a slice would write to the same checkpoint.
        with file_lock(deployment.settings.checkpoints / project.name / f"{slice}.lock"):
            version, last = _fit(deployment, slice, context.run.run_id, data)
        context.add_asset_metadata(
            {
                "version": version,
                "loss": last.get("loss", 0.0),
                "impressions": len(data.moments.impression_at),
                "texts": len(data.items.texts),
                "mlflow": dg.MetadataValue.url(
                    registry.url("interest", version, deployment.settings.mlflow_url)
                ),
            },
            partition_key=slice,
        )
        deployment.progress.made(slice, f"version {version}, loss {last.get('loss', 0.0):.4f}")


def _fit(
    deployment: Deployment, slice: str, run: str, data: chain.InterestInput
) -> tuple[str, dict[str, Any]]:
    """Fit and register a version; return its number and the metrics of its last step."""
    from models.interest.serving import example

    registry, previous = deployment.registry, deployment.latest("interest", slice, run)
    start_from = registry.interest_folder(previous.version) if previous else None
    project = deployment.project
    config, scale = chain.interest_config(project.interest, project.behaviour, project.seed), project.scale
    folder, history = chain.fine_tune(
        data,
        config,
        chain.Trainers(deployment.engine, scale.trainers, scale.gpus, deployment.cache),
        deployment.fits(slice),
        start_from,
        deployment.watch(f"interest_model {slice}"),
    )
    last = history[-1] if history else {}
    tags = {
        "impressions": len(data.moments.impression_at),
        "texts": len(data.items.texts),
        **({"started_from": previous.version} if previous else {}),
        **deployment.table_versions(),
    }
    version = registry.register_interest(
        folder,
        slice,
        run,
        {"loss": last.get("loss")},
        tags,
        config.as_dict(),
        example(config),
        history,
        interest_card(registry.name("interest"), slice, config.as_dict(), history, tags),
        [deployment.table(name) for name in ("items", "impressions", "interactions", "candidates")],
    )
    shutil.rmtree(folder.parent)
    return version, last


@dg.asset(
    group_name="interest",
    kinds={"pytorch", "deltalake"},
    deps=[*_EVENTS, "candidates", before("interest_model")],
    backfill_policy=ONE_RUN,
    pool="writer",
)
@with_retries
def interest_scores(context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """Interest score of each candidate for its user, by the model version fitted before this slice."""
    for slice in deployment.progress.track(context.partition_keys):
        model = deployment.latest("interest", slice, context.run.run_id)
        if model and deployment.project.scale.scorers > 1:
            scored = _score_with_actors(deployment, slice, model)
            show(
                context, deployment, "interest_scores", slice, scored.head, scored.written,
                {"scored_by": model.slice, "mean": scored.mean},
            )  # fmt: skip
            continue
        # Without a model no history is needed.
        state = (
            deployment.state_before(slice)
            if model
            else start(deployment.project.slices.start, deployment.project.behaviour)
        )
        scores = deployment.interest_scores(state, deployment.events(slice), model)
        table = InterestScores.validate(scores)
        mean = table["interest_score"].mean() if model else None
        publish(
            context, deployment, "interest_scores", slice, table,
            {"scored_by": model.slice if model else "no version yet", "mean": mean if isinstance(mean, float) else 0.0},
        )  # fmt: skip


def _score_with_actors(deployment: Deployment, slice: str, model: Version) -> Scored:
    folder = deployment.registry.interest_folder(model.version)
    scorer = Scorer(deployment.lake, deployment.project, slice, folder, model.slice, deployment.cache)
    shared = None if deployment.settings.engine == "embedded" else deployment.shared_folder("scorers")
    return score_with_actors(scorer, deployment.engine, shared)
