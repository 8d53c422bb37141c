"""Running the definitions in this process, over a range of slices."""

from datetime import UTC, datetime

from pipelines.deployment import Deployment
from pipelines.preflight import last_with_events, preflight
from pipelines.triggers.partitions import chosen, range_tags

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def materialise(deployment: Deployment, since: str | None, until: str | None) -> str:
    """Run every asset over [since, until] in this process, recorded in the instance that the UI opens.

    By default from the first slice to the last complete one; without `slices.end`, to the last with events: only a
    schedule or a landing folder goes on after the logs end. Returns the last slice.
    """
    import dagster as dg

    from pipelines.definitions import advance_job
    from pipelines.liveness import fail_dead

    project = deployment.project
    first, last = chosen(project, since, until, datetime.now(UTC))
    preflight(deployment)
    # Opened before anything else: minutes of work should not end at an address that is wrong.
    deployment.registry.prepare()
    deployment.require_versions(first)
    if until is None and project.slices.end is None:
        deployment.take_in()
        deployment.log.require_rows()
        last = min(last, max(first, last_with_events(deployment.held(), project)))
    deployment.tell(f"{project.name}: slices {first} to {last}")
    with dg.DagsterInstance.get() as instance:
        fail_dead(instance)
        try:
            advance_job(deployment).execute_in_process(
                instance=instance, run_config=_QUIET, tags=range_tags(first, last)
            )
        except (dg.Failure, dg.RetryRequested) as failure:
            # Said once, as the error that a person can mend; the page of the run has it too.
            raise failure.__cause__ or failure from None
    return last
