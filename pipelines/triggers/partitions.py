"""When work happens: slices as Dagster partitions, how they depend on each other, and the schedule."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from features.config.slices import Slices
from features.errors import ProjectError
from pipelines.liveness import fail_dead
from pipelines.slice_tables import SliceTables

PREVIOUS = dg.TimeWindowPartitionMapping(
    start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True
)
"""A slice depends on the one before; the first depends on nothing."""

ONE_RUN = dg.BackfillPolicy.single_run()
"""A backfill is one run: each asset gets its slices in order, so that the state advances through them."""

LONGEST = 31
"""Slices per run when catching up: enough to be fast, few enough that a fault shows early."""

LONGEST_SECONDS = 12 * 3600
"""A longer run is terminated as hanging."""

LAST_TABLE = "ranking_dataset"
"""The last table that every run writes for every slice: its slices are those that are complete in the lake."""

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]

REASON = "momentrank/reason"
REPROCESSES = "momentrank/reprocesses"


def before(asset: str) -> dg.AssetDep:
    """Dependency on an asset's previous slice."""
    return dg.AssetDep(asset, partition_mapping=PREVIOUS)


def partitions(slices: Slices) -> dg.TimeWindowPartitionsDefinition:
    """Slices as Dagster partitions with the same keys."""
    return dg.TimeWindowPartitionsDefinition(
        start=slices.start,
        end=slices.end,
        fmt=slices.key_format,
        cron_schedule=cron(slices.start, slices.every),
        timezone="UTC",
    )


def cron(start: datetime, every: timedelta) -> str:
    """Cron schedule that fires at `start`, then every `every`, which is one of `features.config.slices.EVERY`."""
    minutes = int(every.total_seconds() // 60)
    if minutes < 60:
        return f"{start.minute % minutes}-59/{minutes} * * * *"
    if minutes < 1440:
        hours = minutes // 60
        return f"{start.minute} {start.hour % hours}-23/{hours} * * *"
    weekday = "*" if minutes == 1440 else f"{start:%w}"
    return f"{start.minute} {start.hour} * * {weekday}"


def chosen(
    slices: Slices, attribution: timedelta, since: str | None, until: str | None, now: datetime
) -> tuple[str, str]:
    """First and last slice of a run; by default from the first slice to the last complete one.

    Raises ProjectError for a slice that does not exist or has not ended, and if the range is empty.
    """
    first, last = since or slices.key(slices.start), until or slices.last_ended(now - attribution)
    for option, key in (("--from", since), ("--until", until)):
        if key is None:
            continue
        _, end = slices.window(key)
        if slices.end and end > slices.end:
            raise ProjectError(
                f"{option} {key} is after slices.end, {slices.end.isoformat()}: name {slices.last_ended(end)} or "
                "an earlier slice"
            )
        if end > now:
            ended = slices.last_ended(now)
            raise ProjectError(
                f"{option} {key} has not ended: it lasts until {end.isoformat()}; "
                + (f"name {ended} or an earlier slice" if ended else "no slice has ended yet")
            )
    if last is None:
        complete_at = slices.window(slices.key(slices.start))[1] + attribution
        raise ProjectError(
            f"no slice is complete yet: the first will be at {complete_at.isoformat()}; wait until then, or correct "
            "slices.start"
        )
    if slices.window(first) > slices.window(last):
        raise ProjectError(
            f"--from {first} is after --until {last}: swap them, or check slices.start and slices.end"
        )
    return first, last


def range_tags(first: str, last: str) -> dict[str, str]:
    """Tags of a single run over the slices [first, last], which each asset materialises in order."""
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def partition_range(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """First and last slice that a run's tags name, or None."""
    single = tags.get("dagster/partition", "")
    first = tags.get("dagster/asset_partition_range_start", single)
    return (first, tags.get("dagster/asset_partition_range_end", single)) if first else None


def complete(slices: Slices, attribution: timedelta, now: datetime, after: str | None = None) -> list[str]:
    """Slices whose attribution window has closed, in order; with `after`, only those after that slice."""
    last = slices.last_ended(now - attribution)
    since = slices.window(after)[1] if after else slices.start
    return slices.keys(since, slices.window(last)[1]) if last else []


def due(complete: Sequence[str], stored: Collection[str], running: Collection[str]) -> list[tuple[str, str]]:
    """Ranges of slices to run: from the first complete slice that is neither stored nor running to the last one.

    Later slices that are stored are run again, because their state lacks the missing slice. Oldest range first,
    none longer than LONGEST slices.
    """
    done = {*stored, *running}
    missing = [key for key in complete if key not in done]
    if not missing:
        return []
    following = [key for key in complete if key >= missing[0]]
    return [
        (following[at], following[min(at + LONGEST, len(following)) - 1])
        for at in range(0, len(following), LONGEST)
    ]


def under_way(instance: dg.DagsterInstance, job_name: str, keys: Sequence[str]) -> set[str]:
    """The subset of `keys` that a queued or running run of the job will materialise; dead runs are failed first."""
    fail_dead(instance)
    runs = instance.get_runs(dg.RunsFilter(job_name=job_name, statuses=_UNFINISHED))
    ranges = [slices for run in runs if (slices := partition_range(run.tags))]
    return {key for key in keys for first, last in ranges if first <= key <= last}


def request(first: str, last: str, run_key: str, reason: str, **tags: str) -> dg.RunRequest:
    """Request a run over the slices [first, last], tagged with the reason."""
    return dg.RunRequest(run_key=run_key, tags={**range_tags(first, last), REASON: reason, **tags})


def schedule(tables: SliceTables, job_name: str) -> dg.ScheduleDefinition:
    """Schedule that runs the complete slices missing in the lake, each time one completes; starts switched off."""
    slices, attribution = tables.project.slices, tables.project.labels.attribution
    # Rounded up, as cron counts in whole minutes.
    wait = timedelta(minutes=-(-attribution // timedelta(minutes=1)))

    @dg.schedule(
        name=f"{job_name}_every_slice",
        job_name=job_name,
        cron_schedule=cron(slices.start + wait, slices.every),
        execution_timezone="UTC",
        description="Runs every complete slice that is missing in the lake, oldest first.",
    )
    def every_slice(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        now = context.scheduled_execution_time.astimezone(UTC)
        keys = complete(slices, attribution, now)
        ranges = due(keys, tables.lake.slices(LAST_TABLE), under_way(context.instance, job_name, keys))
        if not ranges:
            return dg.SkipReason("every complete slice is in the lake or being run")
        return [
            request(first, last, f"{first}..{last} at {now:%Y-%m-%dT%H:%M}", "the slice is complete")
            for first, last in ranges
        ]

    return every_slice
