"""Run the assets in this process over a range of slices."""

from datetime import UTC, datetime

from pipelines.deployment import Deployment
from pipelines.preflight import last_with_events, preflight
from pipelines.triggers.partitions import chosen, range_tags

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def materialise(deployment: Deployment, since: str | None, until: str | None) -> str:
    """Run every asset over the slices [since, until] and return the last slice.

    By default from the first slice to the last complete one, or, without `slices.end`, to the last with events. The
    run is recorded in the Dagster instance of the UI.
    """
    import dagster as dg

    from pipelines.definitions import advance_job
    from pipelines.liveness import fail_dead

    project = deployment.project
    first, last = chosen(project.slices, project.labels.attribution, since, until, datetime.now(UTC))
    preflight(project, deployment.settings.engine == "embedded", deployment.tell)
    # First, so that a wrong address does not fail after minutes of work.
    deployment.registry.prepare()
    deployment.require_versions(first)
    if until is None and project.slices.end is None:
        deployment.take_in()
        deployment.log.require_rows()
        last = min(last, max(first, last_with_events(deployment.slices_with_events(), project.slices.start)))
    deployment.tell(f"{project.name}: slices {first} to {last}")
    with dg.DagsterInstance.get() as instance:
        fail_dead(instance)
        try:
            advance_job(deployment).execute_in_process(
                instance=instance, run_config=_QUIET, tags=range_tags(first, last)
            )
        except (dg.Failure, dg.RetryRequested) as failure:
            # Show only the cause, which the user can correct; the run's page has all of it.
            raise failure.__cause__ or failure from None
    return last
