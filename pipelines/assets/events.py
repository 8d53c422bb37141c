"""Events: the raw logs, parsed, validated and split into slices."""

from collections.abc import Iterator

import dagster as dg

from features.errors import ModelError
from features.schemas import Candidates, Impressions, Interactions, Items, Rejects
from models.evaluation.metrics import LISTWISE, POINTWISE, MetricSet
from models.ranker.objective import choose_objective
from pipelines import chain
from pipelines.dagster_names import asset_key
from pipelines.deployment import Deployment
from pipelines.preflight import gap
from pipelines.publish import publish
from pipelines.retries import with_retries
from pipelines.triggers.arrival import LATE, outdated_labels
from pipelines.triggers.partitions import ONE_RUN

TABLES = {
    "items": "Item versions, one row each: text, attributes, numbers.",
    "impressions": "Impressions, one row each, with their candidates in displayed order.",
    "interactions": "What users did with items: the kind, when it happened and when it was known.",
    "candidates": "Each candidate of each impression with its label: the largest gain of its interactions in time.",
    "rejects": "Rows that failed validation, with the reason. Rows in = rows kept + rejects.",
}


@dg.multi_asset(
    name="ingest",
    specs=[
        dg.AssetSpec(name, description=text, group_name="events", kinds={"polars", "deltalake"})
        for name, text in TABLES.items()
    ],
    backfill_policy=ONE_RUN,
    pool="writer",
)
@with_retries
def ingest(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> Iterator[dg.MaterializeResult[None]]:
    """Parse the source's new files, and read the slice's events from the event log."""
    deployment.take_in()
    deployment.log.require_rows()
    project = deployment.project
    first, last = context.partition_keys[0], context.partition_keys[-1]
    if message := gap(deployment.held(), project, first, last):
        deployment.tell(message)
    late = outdated_labels(deployment, first)
    if late:
        deployment.tell(
            f"ingest: late-arriving events change labels of {', '.join(late)}; run these slices again"
        )
    keys = context.partition_keys
    events_by_slice = zip(deployment.progress.track(keys), deployment.log.walk(keys), strict=True)
    pointwise, labels = True, set[float]()
    for _, (slice, events, known) in events_by_slice:
        items, impressions, interactions, rejects = (
            table.drop("slice")
            for table in (events.items, events.impressions, events.interactions, events.rejects)
        )
        labelled = chain.attribute(
            impressions, chain.timely(known.drop("slice"), project.source), project.labels
        )
        pointwise &= labelled.is_empty() or MetricSet.of(labelled) == POINTWISE
        labels |= {*labelled["label"].unique()}
        publish(context, deployment, "items", slice, Items.validate(items))
        publish(context, deployment, "impressions", slice, Impressions.validate(impressions))
        publish(context, deployment, "interactions", slice, Interactions.validate(interactions))
        rate = {"click_rate": labelled["clicked"].mean() or 0.0, LATE: dg.MetadataValue.json(late)}
        publish(context, deployment, "candidates", slice, Candidates.validate(labelled), rate)
        reasons = rejects.group_by("reason").len().sort("reason")
        counts = {"reasons": dg.MetadataValue.json(dict(reasons.iter_rows()))}
        publish(context, deployment, "rejects", slice, Rejects.validate(rejects), counts)
    if labels:
        deployment.tell(_objective(POINTWISE if pointwise else LISTWISE, labels))
    for name in TABLES:
        yield dg.MaterializeResult(asset_key=asset_key(project, name))


def _objective(metrics: MetricSet, labels: set[float]) -> str:
    """What the ranker will learn from these labels, said before anything is fitted."""
    try:
        objective = choose_objective(metrics, labels)
    except ModelError as error:
        return f"warning: {error}"
    kind = "one candidate an impression" if objective.is_pointwise else "lists"
    return f"ingest: {kind}: objective {objective.name}, evaluated by {' and '.join(metrics.shown[:2])}"
