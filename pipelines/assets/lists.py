"""Lists: the ranked lists that users would see now, and the report page."""

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
    """The champion's top items for each active user at the end of the slice, or of the last slice of a range."""
    project, slice = deployment.project, _last_slice(context)
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
    """One page: quality against the baselines, feature importance, calibration, explained lists, versions."""
    slice = _last_slice(context)
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


def _last_slice(context: dg.AssetExecutionContext) -> str:
    """The last slice of the range, the only one materialised; the metadata of the others says so."""
    last: str = context.partition_keys[-1]
    for slice in context.partition_keys[:-1]:
        skipped = (
            f"of a range, only the last slice, {last}, is materialised; materialise this slice on its own"
        )
        context.add_asset_metadata({"skipped": skipped}, partition_key=slice)
    return last
