"""When work happens: slices as Dagster partitions, how they depend on each other, and the schedule."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from features.config.project import Project
from features.errors import ProjectError
from pipelines.deployment import Deployment
from pipelines.liveness import fail_dead

PREVIOUS = dg.TimeWindowPartitionMapping(
    start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True
)
"""A slice depends on the one before; the first depends on nothing."""

ONE_RUN = dg.BackfillPolicy.single_run()
"""A backfill is one run: each asset gets its slices in order, as a state that is advanced needs."""

LONGEST = 31
"""Slices in one run that catches up: long enough to be quick, short enough that a fault shows early."""

LONGEST_SECONDS = 12 * 3600
"""A run that takes longer than this is ended: something hangs."""

LAST_TABLE = "ranking_dataset"
"""The last table that every run writes for every slice: a slice that it has is in the lake."""

_WAITING = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]

REASON = "momentrank/reason"
REPROCESSES = "momentrank/restates"


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
    """The cron line that ticks at `start` and every `every` after; `every` is one of `features.config.slices.EVERY`."""
    minutes = int(every.total_seconds() // 60)
    if minutes < 60:
        return f"{start.minute % minutes}-59/{minutes} * * * *"
    if minutes < 1440:
        hours = minutes // 60
        return f"{start.minute} {start.hour % hours}-23/{hours} * * *"
    weekday = "*" if minutes == 1440 else f"{start:%w}"
    return f"{start.minute} {start.hour} * * {weekday}"


def last_complete(project: Project, now: datetime) -> str | None:
    """The newest slice whose attribution window has closed, or None."""
    return project.slices.last_ended(now - project.labels.attribution)


def chosen(project: Project, since: str | None, until: str | None, now: datetime) -> tuple[str, str]:
    """First and last slice of a run: as named, by default from the first slice to the last complete one.

    Raises ProjectError for a slice that is none, or has not ended.
    """
    slices = project.slices
    first, last = since or slices.key(slices.start), until or last_complete(project, now)
    for option, key in (("--from", since), ("--until", until)):
        if key is None:
            continue
        _, end = slices.window(key)
        if slices.end and end > slices.end:
            raise ProjectError(
                f"{option} {key} is beyond slices.end, {slices.end.isoformat()}: name {slices.last_ended(end)} or "
                "an earlier slice"
            )
        if end > now:
            ended = slices.last_ended(now)
            raise ProjectError(
                f"{option} {key} has not ended: it lasts until {end.isoformat()}; "
                + (f"name {ended} or an earlier slice" if ended else "no slice has ended yet")
            )
    if last is None:
        complete_at = slices.window(slices.key(slices.start))[1] + project.labels.attribution
        raise ProjectError(
            f"no slice is complete yet: the first is at {complete_at.isoformat()}; mend slices.start, or wait"
        )
    if slices.window(first) > slices.window(last):
        raise ProjectError(
            f"no slice lies between --from {first} and --until {last}: see slices.start and slices.end"
        )
    return first, last


def span(first: str, last: str) -> dict[str, str]:
    """Tags of the one run that materialises the slices [first, last], each asset getting them in order."""
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def spanned(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """First and last slice of a run with these tags; None where it has none."""
    one = tags.get("dagster/partition", "")
    first = tags.get("dagster/asset_partition_range_start", one)
    return (first, tags.get("dagster/asset_partition_range_end", one)) if first else None


def complete(project: Project, now: datetime, after: str | None = None) -> list[str]:
    """Every slice, or every one after a slice, whose attribution window has closed, in order."""
    slices, last = project.slices, last_complete(project, now)
    since = slices.window(after)[1] if after else slices.start
    return slices.keys(since, slices.window(last)[1]) if last else []


def due(wanted: Sequence[str], kept: Collection[str], under_way: Collection[str]) -> list[tuple[str, str]]:
    """Ranges that run what is wanted and neither kept nor under way: oldest first, none longer than LONGEST.

    A range goes on over slices that are kept already: their state came without those that were missing.
    """
    done = {*kept, *under_way}
    missing = [key for key in wanted if key not in done]
    if not missing:
        return []
    following = [key for key in wanted if key >= missing[0]]
    return [
        (following[at], following[min(at + LONGEST, len(following)) - 1])
        for at in range(0, len(following), LONGEST)
    ]


def under_way(instance: dg.DagsterInstance, job_name: str, keys: Sequence[str]) -> set[str]:
    """Those of the slices that a run of the job, queued or begun and alive, will materialise."""
    fail_dead(instance)
    runs = instance.get_runs(dg.RunsFilter(job_name=job_name, statuses=_WAITING))
    spans = [found for run in runs if (found := spanned(run.tags))]
    return {key for key in keys for first, last in spans if first <= key <= last}


def request(first: str, last: str, run_key: str, reason: str, **tags: str) -> dg.RunRequest:
    """A run of [first, last] that says on its page why it was asked for."""
    return dg.RunRequest(run_key=run_key, tags={**span(first, last), REASON: reason, **tags})


def schedule(deployment: Deployment, job_name: str) -> dg.ScheduleDefinition:
    """Runs what is complete and not in the lake once a slice's attribution window has closed; off until switched on."""

    project = deployment.project
    wait = timedelta(
        minutes=-(-project.labels.attribution // timedelta(minutes=1))
    )  # cron knows whole minutes

    @dg.schedule(
        name=f"{job_name}_every_slice",
        job_name=job_name,
        cron_schedule=cron(project.slices.start + wait, project.slices.every),
        execution_timezone="UTC",
        description="Every complete slice that the lake misses, oldest first: after a pause, all since.",
    )
    def every_slice(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        now = context.scheduled_execution_time.astimezone(UTC)
        wanted = complete(project, now)
        ranges = due(
            wanted, deployment.lake.slices(LAST_TABLE), under_way(context.instance, job_name, wanted)
        )
        if not ranges:
            return dg.SkipReason("every complete slice is in the lake, or a run of it is under way")
        return [
            request(first, last, f"{first}..{last} at {now:%Y-%m-%dT%H:%M}", "the slice is complete")
            for first, last in ranges
        ]

    return every_slice
