"""When work happens: slices as Dagster partitions, how they depend on each other, and the schedule."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from features.errors import ProjectError
from features.project import Project

PREVIOUS = dg.TimeWindowPartitionMapping(
    start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True
)
"""A slice depends on the one before; the first depends on nothing."""

ONE_RUN = dg.BackfillPolicy.single_run()
"""A backfill is one run: each asset gets its slices in order, as a state that is advanced needs."""


def before(asset: str) -> dg.AssetDep:
    """Dependency on an asset's previous slice."""
    return dg.AssetDep(asset, partition_mapping=PREVIOUS)


def partitions(project: Project) -> dg.TimeWindowPartitionsDefinition:
    """The project's slices as partitions; their keys are the slices' keys."""
    slices = project.slices
    return dg.TimeWindowPartitionsDefinition(
        start=slices.start,
        end=slices.end,
        fmt=slices.key_format,
        cron_schedule=cron(slices.start, slices.every),
        timezone="UTC",
    )


def cron(start: datetime, every: timedelta) -> str:
    """The cron line that ticks at `start` and every `every` after. Raises ProjectError where cron has none."""
    minutes = int(every.total_seconds() // 60)
    if every % timedelta(minutes=1) == timedelta(0) and start.second == 0:
        if minutes < 60 and 60 % minutes == 0:
            return f"{start.minute % minutes}-59/{minutes} * * * *"
        if minutes % 60 == 0 and minutes < 1440 and 1440 % minutes == 0:
            hours = minutes // 60
            return f"{start.minute} {start.hour % hours}-23/{hours} * * *"
        if minutes == 1440:
            return f"{start.minute} {start.hour} * * *"
    raise ProjectError(
        f"slices.every = {every} from {start} fits no calendar: choose whole minutes that divide an hour, "
        f"whole hours that divide a day, or one day"
    )


def last_complete(project: Project, now: datetime) -> str | None:
    """The newest slice whose attribution window has closed, or None."""
    keys = project.slices.keys(project.slices.start, now - project.labels.attribution)
    complete = [k for k in keys[-2:] if project.slices.window(k)[1] + project.labels.attribution <= now]
    return complete[-1] if complete else None


def schedule(project: Project, job_name: str) -> dg.ScheduleDefinition:
    """Runs the newest complete slice as soon as its attribution window has closed; off until switched on."""

    wait = timedelta(
        minutes=-(-project.labels.attribution // timedelta(minutes=1))
    )  # cron knows whole minutes

    @dg.schedule(
        name=f"{job_name}_every_slice",
        job_name=job_name,
        cron_schedule=cron(project.slices.start + wait, project.slices.every),
        execution_timezone="UTC",
        description="The newest slice whose attribution window has closed.",
    )
    def every_slice(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        key = last_complete(project, context.scheduled_execution_time.astimezone(UTC))
        return (
            dg.RunRequest(run_key=key, partition_key=key)
            if key
            else dg.SkipReason("no slice is complete yet")
        )

    return every_slice
