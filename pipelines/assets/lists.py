"""Lists: the ranked lists that users would see now, and the report page."""

import dagster as dg

from models.report.page import write
from pipelines.asset_steps import StepRun, step
from pipelines.reporting import evaluated, metrics_of, page_of, report_data, write_metrics
from pipelines.requests import active_users, serving_until


@step(
    "lists",
    {"lightgbm", "deltalake"},
    ["promotion", "ranker", "interest_model", "moment_state", "item_vectors", "impressions"],
)
def ranked_lists(run: StepRun) -> None:
    """The champion's top items for each active user at the end of the slice, or of the last slice of a range."""
    deployment, slice = run.deployment, _last_slice(run)
    project = deployment.project
    serving = serving_until(deployment.registry, project.slices, slice)
    if serving is None:
        run.describe(slice, {"skipped": "no ranker is registered yet"})
        return
    _, end = project.slices.window(slice)
    lists = deployment.requests.rank(
        active_users(deployment.lake, slice, project.lists.users),
        end,
        project.lists.k,
        deployment.registry.load_ranker(serving.version),
    )
    run.publish("ranked_lists", slice, lists, {"ranked_by": f"version {serving.version}"})
    deployment.progress.made(
        slice, f"{lists['user_id'].n_unique()} lists by ranker version {serving.version}"
    )


@step("lists", {"html", "mlflow"}, ["evaluation", "exposure", "ranked_lists", "rejects"])
def report(run: StepRun) -> None:
    """One page: quality against the baselines, feature importance, calibration, explained lists, versions."""
    deployment, slice = run.deployment, _last_slice(run)
    result = evaluated(deployment.slices, slice)
    folder = deployment.settings.report(deployment.project.name)
    page = page_of(folder, deployment.lake, slice, "report.html")
    write(page, report_data(deployment.slices, deployment.registry, result, slice))
    metrics = metrics_of(deployment.slices, deployment.registry.champion(), result)
    write_metrics(metrics, page_of(folder, deployment.lake, slice, "metrics.json"))
    run.describe(
        slice,
        {
            "page": dg.MetadataValue.path(str(page)),
            "metrics": dg.MetadataValue.json(metrics),
            "mlflow_run": deployment.registry.log_report(page, slice),
        },
    )
    deployment.progress.made(slice, str(page))


def _last_slice(run: StepRun) -> str:
    """The last slice of the range, the only one materialised; the metadata of the others says so."""
    *others, last = run.slices
    for slice in others:
        skipped = (
            f"of a range, only the last slice, {last}, is materialised; materialise this slice on its own"
        )
        run.describe(slice, {"skipped": skipped})
    return last
