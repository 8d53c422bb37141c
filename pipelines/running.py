"""Running the definitions in this process, over a range of slices."""

from datetime import UTC, datetime

from features.errors import ProjectError
from pipelines.deployment import Deployment
from pipelines.timetable import last_complete, span

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def materialise(deployment: Deployment, since: str | None, until: str | None) -> str:
    """Run every asset over [since, until] in this process, recorded in the instance that the UI opens.

    By default from the first slice to the last complete one. Returns the last slice.
    """
    import dagster as dg

    from pipelines.definitions import JOB, define

    slices = deployment.project.slices
    last = until or last_complete(deployment.project, datetime.now(UTC))
    first = since or slices.key(slices.start)
    if last is None or slices.window(first) > slices.window(last):
        raise ProjectError(
            f"no slice lies between --from {first} and --until {last}: see slices.start and slices.end"
        )
    # Opened before anything else: minutes of work should not end at an address that is wrong.
    deployment.registry.prepare()
    deployment.tell(f"{deployment.project.name}: slices {first} to {last}")
    with dg.DagsterInstance.get() as instance:
        job = define(deployment).resolve_job_def(JOB)
        try:
            job.execute_in_process(instance=instance, run_config=_QUIET, tags=span(first, last))
        except dg.Failure as failure:
            # Said once, as the error that a person can mend; the page of the run has it too.
            raise failure.__cause__ or failure from None
    return last
