"""Events: the raw logs, parsed, validated and split into slices."""

import dagster as dg

from features.errors import ModelError
from features.schemas import Candidates, Impressions, Interactions, Items, Rejects
from models.evaluation.metrics import LISTWISE, POINTWISE, MetricSet
from models.ranker.objective import choose_objective
from pipelines import chain
from pipelines.asset_steps import Step, StepRun
from pipelines.preflight import gap
from pipelines.triggers.arrival import LATE, outdated_labels

TABLES = {
    "items": "Item versions, one row each: text, attributes, numbers.",
    "impressions": "Impressions, one row each, with their candidates in displayed order.",
    "interactions": "What users did with items: the kind, when it happened and when it was known.",
    "candidates": "Each candidate of each impression with its label: the largest gain of its interactions in time.",
    "rejects": "Rows that failed validation, with the reason. Rows in = rows kept + rejects.",
}


def ingest(run: StepRun) -> None:
    """Parse the source's new files, and read the slice's events from the event log."""
    deployment, project = run.deployment, run.deployment.project
    deployment.take_in()
    deployment.log.require_rows()
    first, last = run.slices[0], run.slices[-1]
    if message := gap(deployment.slices_with_events(), project.slices, first, last):
        deployment.tell(message)
    late = outdated_labels(deployment.log, deployment.slices, first)
    if late:
        deployment.tell(
            f"ingest: late-arriving events change labels of {', '.join(late)}; run these slices again"
        )
    pointwise, labels = True, set[float]()
    for _, (slice, events, known) in zip(run.track(), deployment.log.walk(run.slices), strict=True):
        items, impressions, interactions, rejects = (
            table.drop("slice")
            for table in (events.items, events.impressions, events.interactions, events.rejects)
        )
        labelled = chain.attribute(
            chain.labelled(impressions), chain.timely(known.drop("slice"), project.source), project.labels
        )
        pointwise &= labelled.is_empty() or MetricSet.of(labelled) == POINTWISE
        labels |= {*labelled["label"].unique()}
        run.publish("items", slice, Items.validate(items))
        run.publish("impressions", slice, Impressions.validate(impressions))
        run.publish("interactions", slice, Interactions.validate(interactions))
        rate = {"click_rate": labelled["clicked"].mean() or 0.0, LATE: dg.MetadataValue.json(late)}
        run.publish("candidates", slice, Candidates.validate(labelled), rate)
        reasons = rejects.group_by("reason").len().sort("reason")
        counts = {"reasons": dg.MetadataValue.json(dict(reasons.iter_rows()))}
        run.publish("rejects", slice, Rejects.validate(rejects), counts)
    if labels:
        deployment.tell(_objective(POINTWISE if pointwise else LISTWISE, labels))


STEP = Step(
    "ingest",
    ingest,
    [
        dg.AssetSpec(name, description=text, group_name="events", kinds={"polars", "deltalake"})
        for name, text in TABLES.items()
    ],
    "writer",
)


def _objective(metrics: MetricSet, labels: set[float]) -> str:
    """What the ranker will learn from these labels, said before anything is fitted."""
    try:
        objective = choose_objective(metrics, labels)
    except ModelError as error:
        return f"warning: {error}"
    kind = "one candidate an impression" if objective.is_pointwise else "lists"
    return f"ingest: {kind}: objective {objective.name}, evaluated by {' and '.join(metrics.shown[:2])}"
