"""Interest: a text encoder and a moment decoder, fine-tuned slice by slice to predict what users do next."""

import shutil
from typing import Any

import dagster as dg
from filelock import FileLock

from features.schemas import InterestScores, ItemVectors
from models.registry.interest_card import interest_card
from models.registry.versions import Version
from pipelines import chain
from pipelines.asset_steps import StepRun, step
from pipelines.compute.score_buckets import Scored, Scorer, score_by_bucket
from pipelines.triggers.partitions import before

_EVENTS: list[str | dg.AssetDep] = ["items", "impressions", "interactions", before("moment_state")]


@step("interest", {"huggingface", "deltalake"}, ["items"])
def item_vectors(run: StepRun) -> None:
    """Text vectors of the items from the frozen encoder, for similarity to what a user clicked before."""
    deployment = run.deployment
    for slice in run.track():
        items = deployment.lake.read("items", [slice])
        table = chain.item_vectors(items, deployment.project.interest, deployment.settings.cache)
        run.publish("item_vectors", slice, ItemVectors.validate(table))


@step("interest", {"pytorch", "mlflow"}, [*_EVENTS, "candidates", before("interest_model")], pool="trainer")
def interest_model(run: StepRun) -> None:
    """The interest model after this slice: the previous version, fine-tuned on the slice's interactions."""
    deployment = run.deployment
    project, registry = deployment.project, deployment.registry
    for slice in run.track():
        labels = deployment.lake.read("candidates", [slice])
        if not labels["clicked"].any():
            run.describe(slice, {"skipped": "nothing was clicked in this slice"})
            continue
        tables = deployment.slices
        data = chain.interest_input(tables.state_before(slice), tables.events(slice), labels)
        # Two runs of a slice would write to the same checkpoint.
        with FileLock(deployment.settings.checkpoints / project.name / f"{slice}.lock"):
            version, last = _fit(run, slice, data)
        run.describe(
            slice,
            {
                "version": version,
                "loss": last.get("loss", 0.0),
                "impressions": len(data.moments.impression_at),
                "texts": len(data.items.texts),
                "mlflow": dg.MetadataValue.url(
                    registry.url("interest", version, deployment.settings.mlflow_url)
                ),
            },
        )
        deployment.progress.made(slice, f"version {version}, loss {last.get('loss', 0.0):.4f}")


def _fit(run: StepRun, slice: str, data: chain.InterestInput) -> tuple[str, dict[str, Any]]:
    """Fit and register a version; return its number and the metrics of its last step."""
    from models.interest.serving import example

    deployment, registry = run.deployment, run.deployment.registry
    previous = registry.latest("interest", slice, run.id)
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
        run.id,
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


@step("interest", {"pytorch", "deltalake"}, [*_EVENTS, "candidates", before("interest_model")])
def interest_scores(run: StepRun) -> None:
    """Interest score of each candidate for its user, by the model version fitted before this slice."""
    deployment = run.deployment
    for slice in run.track():
        model = deployment.registry.latest("interest", slice, run.id)
        if model and deployment.project.scale.scorers > 1:
            scored = _score_by_bucket(run, slice, model)
            run.show("interest_scores", slice, scored.head, scored.written,
                {"scored_by": model.slice, "mean": scored.mean},
            )  # fmt: skip
            continue
        # Without a model no history is needed.
        tables = deployment.slices
        state = tables.state_before(slice) if model else tables.start()
        inputs = chain.interest_input(state, tables.events(slice, unlabelled=True))
        folder, fitted_on = deployment.requests.model(model)
        scores = chain.interest_scores(inputs, folder, fitted_on, deployment.settings.cache)
        table = InterestScores.validate(scores)
        mean = table["interest_score"].mean() if model else None
        run.publish("interest_scores", slice, table,
            {"scored_by": model.slice if model else "no version yet", "mean": mean if isinstance(mean, float) else 0.0},
        )  # fmt: skip


def _score_by_bucket(run: StepRun, slice: str, model: Version) -> Scored:
    deployment = run.deployment
    folder = deployment.registry.interest_folder(model.version)
    scorer = Scorer(deployment.lake, deployment.project, slice, folder, model.slice, deployment.cache)
    shared = None if deployment.settings.engine == "embedded" else deployment.shared_folder("scorers")
    return score_by_bucket(scorer, deployment.engine, shared)
