"""Lists: what people would be shown now, and the page that a person looks at."""

import dagster as dg

from models.report.page import write
from pipelines.deployment import Deployment
from pipelines.publish import publish
from pipelines.reporting import evaluated, metrics_of, page_of, report_data, write_metrics
from pipelines.requests import active_users, rank, serving_until
from pipelines.retries import with_retries
from pipelines.triggers.partitions import ONE_RUN


@dg.asset(
    group_name="lists",
    kinds={"lightgbm", "deltalake"},
    deps=["promotion", "ranker", "interest_model", "moment_state", "item_vectors", "impressions"],
    backfill_policy=ONE_RUN,
    pool="writer",
)
@with_retries
def ranked_lists(context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """The champion's top items for each active user at the slice's end; of a range, for its last slice."""
    project, slice = deployment.project, _last(context)
    serving = serving_until(deployment, slice)
    if serving is None:
        context.add_asset_metadata({"skipped": "no ranker is registered yet"}, partition_key=slice)
        return
    _, end = project.slices.window(slice)
    lists = rank(
        deployment,
        active_users(deployment.lake, slice, project.lists.users),
        end,
        project.lists.k,
        deployment.registry.load_ranker(serving.version),
    )
    publish(context, deployment, "ranked_lists", slice, lists, {"ranked_by": f"version {serving.version}"})
    deployment.progress.made(
        slice, f"{lists['user_id'].n_unique()} lists by ranker version {serving.version}"
    )


@dg.asset(
    group_name="lists",
    kinds={"html", "mlflow"},
    deps=["evaluation", "exposure", "ranked_lists", "rejects"],
    backfill_policy=ONE_RUN,
    pool="writer",
)
@with_retries
def report(context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """One page: quality beside the baselines, what matters, calibration, lists with reasons, versions."""
    slice = _last(context)
    result = evaluated(deployment.lake, deployment.project, slice)
    page = page_of(deployment, slice, "report.html")
    write(page, report_data(deployment, result, slice))
    metrics = metrics_of(deployment, result)
    write_metrics(metrics, page_of(deployment, slice, "metrics.json"))
    run = deployment.registry.log_report(page, slice)
    context.add_asset_metadata(
        {
            "page": dg.MetadataValue.path(str(page)),
            "metrics": dg.MetadataValue.json(metrics),
            "mlflow_run": run,
        },
        partition_key=slice,
    )
    deployment.progress.made(slice, str(page))


def _last(context: dg.AssetExecutionContext) -> str:
    """The last slice of the range, which something is made for; the others are told that they are not."""
    last: str = context.partition_keys[-1]
    for slice in context.partition_keys[:-1]:
        told = f"made for the last slice of a range, {last}; materialise this slice alone for its own"
        context.add_asset_metadata({"skipped": told}, partition_key=slice)
    return last
