"""Retention: what is known of people goes when it is as old as the project says, by a job of its own.

Tables about people are those with a column that leads to one. Their slices are deleted, and with them every older
version of the table. Two things stay: the moment state that the oldest slice left goes on from, and of the last
table that a run writes an empty slice, which says that the slice was run and need not be run again.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg

from features.config.project import Project
from models.registry.registry import Registry
from pipelines.dagster_names import named, resource, step
from pipelines.lake import STATE, Lake
from pipelines.triggers.partitions import LAST_TABLE

JOB = "retire_slices"
PERSONAL = ("user_id", "impression_id", "raw")
"""Columns that lead to a person; a table of the lake that has one of them is about people."""


def expired(project: Project, slices: Sequence[str], now: datetime) -> list[str]:
    """Those of the slices that ended `retention.keep` ago or earlier, in order."""
    keep = project.retention.keep
    if keep is None:
        return []
    return [key for key in sorted(slices) if project.slices.window(key)[1] <= now - keep]


def about_people(lake: Lake) -> list[str]:
    """Tables that know of people; the moment state, being one, with all of its tables."""
    return [
        table
        for table in lake.tables()
        if table.startswith(f"{STATE}/") or set(PERSONAL) & set(lake.scan(table).collect_schema().names())
    ]


def due_to_go(lake: Lake, project: Project, now: datetime) -> dict[str, list[str]]:
    """Table → slices that are too old to be kept, and are not yet gone."""
    found = {}
    for table in about_people(lake):
        old = expired(project, lake.slices(table), now)
        if table.startswith(f"{STATE}/"):
            old = old[:-1]
        if table == LAST_TABLE:
            old = [key for key in old if lake.read(table, [key], ["impression_id"]).height]
        if old:
            found[table] = old
    return found


def retire(
    lake: Lake, registry: Registry, project: Project, gone: Mapping[str, Sequence[str]], now: datetime
) -> tuple[int, int]:
    """Delete slices by table, and all older versions of tables about people; returns files and pages removed."""
    slices = project.slices
    for table, keys in gone.items():
        for key in keys:
            if table == LAST_TABLE:
                lake.write(table, key, lake.read(table, [key]).clear())
            else:
                lake.delete(table, key)
    files = sum(lake.purge(table) for table in about_people(lake))
    old = set(expired(project, slices.keys(slices.start, now), now))
    return files, registry.erase_pages(lambda slice, _: slice in old)


class Retiring(dg.Config):
    """What a person may set when they start the job by hand."""

    dry: bool = False
    """Say what would go, and delete nothing."""


def jobs(project: Project, tags: Mapping[str, str]) -> list[dg.JobDefinition]:
    """The job of retention; none where the project keeps everything."""
    if project.retention.keep is None:
        return []

    @dg.op(
        name=step(project, "retire_what_is_old"),
        pool=named(project, "writer"),
        required_resource_keys={resource(project)},
        description="Deletes what is known of people and is older than `retention.keep`.",
    )
    def retire_what_is_old(context: dg.OpExecutionContext, config: Retiring) -> None:
        now, deployment = datetime.now(UTC), getattr(context.resources, resource(project))
        gone = due_to_go(deployment.lake, project, now)
        files, pages = (
            (0, 0) if config.dry else retire(deployment.lake, deployment.registry, project, gone, now)
        )
        context.add_output_metadata(
            {
                "slices": dg.MetadataValue.json(gone),
                "dry": config.dry,
                "files_removed": files,
                "pages_removed": pages,
            }
        )

    @dg.job(
        name=named(project, JOB),
        description="Deletes what is known of people and is too old: see docs/privacy.md.",
        tags=tags,
    )
    def retire_slices() -> None:
        retire_what_is_old()

    return [retire_slices]


def schedules(project: Project) -> list[dg.ScheduleDefinition]:
    """Retention once a day; off until switched on, and none where the project keeps everything."""
    if project.retention.keep is None:
        return []
    return [
        dg.ScheduleDefinition(
            job_name=named(project, JOB), cron_schedule="0 4 * * *", execution_timezone="UTC"
        )
    ]
