"""Retention: a job deletes slices of personal data that are older than `retention.keep`.

A table is personal if a column identifies a user. Its old slices are deleted, with every older version of the table.
Two things stay: the moment state that the oldest remaining slice starts from, and an empty slice of the last table of
a run, which marks the slice as done.
"""

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg

from features.config.project import Project
from models.interest_input import QUERY_CACHE
from models.registry.registry import Registry
from pipelines.dagster_names import named, resource, step
from pipelines.lake import STATE, Lake
from pipelines.triggers.partitions import LAST_TABLE

JOB = "retire_slices"
PERSONAL = ("user_id", "impression_id", "raw")
"""Columns that identify a user; a table with one of them is personal."""


def expired(project: Project, slices: Sequence[str], now: datetime) -> list[str]:
    """The slices that ended `retention.keep` ago or earlier, in order."""
    keep = project.retention.keep
    if keep is None:
        return []
    return [key for key in sorted(slices) if project.slices.window(key)[1] <= now - keep]


def personal_tables(lake: Lake) -> list[str]:
    """Personal tables, with all tables of the moment state."""
    return [
        table
        for table in lake.tables()
        if table.startswith(f"{STATE}/") or set(PERSONAL) & set(lake.scan(table).collect_schema().names())
    ]


def slices_to_delete(lake: Lake, project: Project, now: datetime) -> dict[str, list[str]]:
    """Table → slices to delete now."""
    due = {}
    for table in personal_tables(lake):
        old = expired(project, lake.slices(table), now)
        if table.startswith(f"{STATE}/"):
            old = old[:-1]
        if table == LAST_TABLE:
            old = [key for key in old if lake.read(table, [key], ["impression_id"]).height]
        if old:
            due[table] = old
    return due


def retire(
    lake: Lake, registry: Registry, project: Project, due: Mapping[str, Sequence[str]], now: datetime
) -> tuple[int, int]:
    """Delete slices by table, and all older versions of personal tables. Returns the files and pages removed."""
    slices = project.slices
    for table, keys in due.items():
        for key in keys:
            if table == LAST_TABLE:
                lake.write(table, key, lake.read(table, [key]).clear())
            else:
                lake.delete(table, key)
    files = sum(lake.purge(table) for table in personal_tables(lake))
    old = set(expired(project, slices.keys(slices.start, now), now))
    return files, registry.erase_pages(lambda slice, _: slice in old)


class RetentionConfig(dg.Config):
    """Configuration of a run launched by hand."""

    dry: bool = False
    """Only list what would be deleted."""


def jobs(project: Project, tags: Mapping[str, str]) -> list[dg.JobDefinition]:
    """The retention job; none if the project keeps everything."""
    if project.retention.keep is None:
        return []

    @dg.op(
        name=step(project, "retire_what_is_old"),
        pool=named(project, "writer"),
        required_resource_keys={resource(project)},
        description="Deletes personal data that is older than `retention.keep`.",
    )
    def retire_what_is_old(context: dg.OpExecutionContext, config: RetentionConfig) -> None:
        now, deployment = datetime.now(UTC), getattr(context.resources, resource(project))
        due = slices_to_delete(deployment.lake, project, now)
        files, pages = (
            (0, 0) if config.dry else retire(deployment.lake, deployment.registry, project, due, now)
        )
        if not config.dry:
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

    return [retire_slices]


def schedules(project: Project) -> list[dg.ScheduleDefinition]:
    """A daily schedule, off until switched on; none if the project keeps everything."""
    if project.retention.keep is None:
        return []
    return [
        dg.ScheduleDefinition(
            job_name=named(project, JOB), cron_schedule="0 4 * * *", execution_timezone="UTC"
        )
    ]
