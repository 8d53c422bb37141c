"""Retention: a job deletes slices of personal data that are older than `retention.keep`.

A table is personal if a column identifies a user. Its old slices are deleted, with every older version of the table.
Two things stay: the moment state that the oldest remaining slice starts from, and an empty slice of the last table of
a run, which marks the slice as done.
"""

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from features.config.slices import Slices
from models.interest_input import QUERY_CACHE
from models.registry.registry import Registry
from pipelines.dagster_names import named, resource, step
from pipelines.lake import STATE, Lake
from pipelines.triggers.partitions import LAST_TABLE

JOB = "retire_slices"
PERSONAL = ("user_id", "impression_id", "raw")
"""Columns that identify a user; a table with one of them is personal."""


def expired(slices: Slices, keys: Sequence[str], before: datetime) -> list[str]:
    """The slices that ended at an instant or earlier, in order."""
    return [key for key in sorted(keys) if slices.window(key)[1] <= before]


def personal_tables(lake: Lake) -> list[str]:
    """Personal tables, with all tables of the moment state."""
    return [
        table
        for table in lake.tables()
        if table.startswith(f"{STATE}/") or set(PERSONAL) & set(lake.scan(table).collect_schema().names())
    ]


def slices_to_delete(lake: Lake, slices: Slices, before: datetime) -> dict[str, list[str]]:
    """Table → slices to delete: those that ended at an instant or earlier."""
    due = {}
    for table in personal_tables(lake):
        old = expired(slices, lake.slices(table), before)
        if table.startswith(f"{STATE}/"):
            old = old[:-1]
        if table == LAST_TABLE:
            old = [key for key in old if lake.read(table, [key], ["impression_id"]).height]
        if old:
            due[table] = old
    return due


def retire(
    lake: Lake, registry: Registry, slices: Slices, due: Mapping[str, Sequence[str]], before: datetime
) -> tuple[int, int]:
    """Delete slices by table, and all older versions of personal tables. Returns the files and pages removed."""
    for table, keys in due.items():
        for key in keys:
            if table == LAST_TABLE:
                lake.write(table, key, lake.read(table, [key]).clear())
            else:
                lake.delete(table, key)
    files = sum(lake.purge(table) for table in personal_tables(lake))
    old = set(expired(slices, slices.keys(slices.start, before), before))
    return files, registry.erase_pages(lambda slice, _: slice in old)


class RetentionConfig(dg.Config):
    """Configuration of a run launched by hand."""

    dry: bool = False
    """Only list what would be deleted."""


def job(project: str, slices: Slices, keep: timedelta, tags: Mapping[str, str]) -> dg.JobDefinition:
    """The job that deletes what is older than `keep`."""

    @dg.op(
        name=step(project, "retire_what_is_old"),
        pool=named(project, "writer"),
        required_resource_keys={resource(project)},
        description="Deletes personal data that is older than `retention.keep`.",
    )
    def retire_what_is_old(context: dg.OpExecutionContext, config: RetentionConfig) -> None:
        before, deployment = datetime.now(UTC) - keep, getattr(context.resources, resource(project))
        due = slices_to_delete(deployment.lake, slices, before)
        files = pages = 0
        if not config.dry:
            files, pages = retire(deployment.lake, deployment.registry, slices, due, before)
            shutil.rmtree(deployment.settings.cache / QUERY_CACHE, ignore_errors=True)
        context.add_output_metadata(
            {
                "slices": dg.MetadataValue.json(due),
                "dry": config.dry,
                "files_removed": files,
                "pages_removed": pages,
            }
        )

    @dg.job(
        name=named(project, JOB),
        description="Deletes personal data that is too old: see docs/privacy.md.",
        tags=tags,
    )
    def retire_slices() -> None:
        retire_what_is_old()

    return retire_slices


def schedule(project: str) -> dg.ScheduleDefinition:
    """A daily schedule of the job, off until switched on."""
    return dg.ScheduleDefinition(
        job_name=named(project, JOB), cron_schedule="0 4 * * *", execution_timezone="UTC"
    )
