"""When runs are asked for because something came: a file in the landing folder, or an interaction after its slice."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import dagster as dg
import polars as pl

from features.config.project import Project
from features.events.labels import attribute, reprocessed, timely
from pipelines.dagster_names import asset_key, named
from pipelines.deployment import Deployment
from pipelines.event_log import EventLog, Record
from pipelines.landing import Landing, Stamp, open_landing, settled
from pipelines.triggers.partitions import LAST_TABLE, REPROCESSES, complete, due, request, under_way

LOOK_EVERY = 30  # seconds
_LABEL = ["impression_id", "item_id", "label"]
LATE = "late_slices"
"""Metadata of `candidates`: earlier slices whose labels in the lake are no longer what is known."""


def arrivals(deployment: Deployment, job_name: str) -> dg.SensorDefinition:
    """The trigger of a project with a landing folder; off until switched on."""

    @dg.sensor(
        name=named(deployment.project, "arriving_logs"),
        job_name=job_name,
        minimum_interval_seconds=LOOK_EVERY,
        description="Takes in what has arrived and runs the complete slices that it touches, and those after them.",
    )
    def arriving_logs(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        place = open_landing(deployment.project, deployment.settings.home)
        if place is None:
            return dg.SensorResult(skip_reason="the project declares no source.landing")
        now = datetime.now(UTC)
        seen, since = _cursor(context.cursor)
        listing = place.look()
        told = take_in(place, deployment.log, seen, listing)
        for line in told:
            context.log.info(line)
        records = deployment.log.records()
        wanted = complete(deployment.project, now)
        kept = deployment.lake.slices(LAST_TABLE)
        waiting = under_way(context.instance, job_name, wanted)
        ranges, too_old = touched(records, since, wanted, kept, waiting, deployment.project)
        if too_old:
            context.log.warning(
                f"events of {', '.join(too_old)} came later than source.allowed_lateness and change nothing there: "
                "materialise these slices and the ones after them by hand if they should"
            )
        number = records[-1].number if records else 0
        return dg.SensorResult(
            run_requests=[
                _arrived(first, last, f"{first}..{last} after file {number}", kept) for first, last in ranges
            ],
            skip_reason=None if ranges else "; ".join(told) or "nothing new to run",
            cursor=json.dumps({"seen": listing, "record": number}),
        )

    return arriving_logs


def take_in(place: Landing, log: EventLog, seen: dict[str, Stamp], listing: dict[str, Stamp]) -> list[str]:
    """Parse every new file that stayed as it was since the last look, and say what became of each."""
    known = {(record.path, record.size, record.stamp) for record in log.records()}
    said = []
    for name in settled(seen, listing):
        if (place.place(name), *listing[name]) in known:
            continue
        with place.opened(name) as path:
            found = log.arrive(name, path, place.place(name), *listing[name])
        if found.refused:
            said.append(f"{name} was refused: {found.refused}")
        else:
            slices = ", ".join(found.slices) or "no slice"
            said.append(f"{name} was parsed: {found.rows:,} rows, of {slices}")
    return said


def touched(
    records: Iterable[Record],
    since: int,
    wanted: Sequence[str],
    kept: Sequence[str],
    waiting: Iterable[str],
    project: Project,
) -> tuple[list[tuple[str, str]], list[str]]:
    """Ranges to run now, and the slices that new files touch too late to be run again.

    `wanted` are the complete slices, `since` the number of the last record that was answered. A slice that is
    kept is run again if a newer record touches it, within `source.allowed_lateness` of the newest slice kept; one that is
    not kept, if any record touches it or a later one and no run of it waits.
    """
    records = [*records]
    reached = max((key for record in records for key in record.slices if key in wanted), default="")
    new = {key for record in records if record.number > since for key in record.slices if key in wanted}
    too_old: list[str] = []
    if kept:
        newest, _ = project.slices.window(kept[-1])
        too_old = sorted(
            key
            for key in new & {*kept}
            if project.slices.window(key)[1] + project.source.allowed_lateness < newest
        )
    again = new - {*too_old}
    end = max([reached, *kept]) if again & {*kept} else reached
    following = [key for key in wanted if key <= end]
    return due(following, {*kept} - again, {*waiting} - again), too_old


def _arrived(first: str, last: str, run_key: str, kept: Sequence[str]) -> dg.RunRequest:
    again = [key for key in kept if first <= key <= last]
    tags = {REPROCESSES: " ".join(again)} if again else {}
    return request(first, last, run_key, "new logs arrived", **tags)


def _cursor(text: str | None) -> tuple[dict[str, Stamp], int]:
    if not text:
        return {}, 0
    kept = json.loads(text)
    return {name: (stamp[0], stamp[1]) for name, stamp in kept["seen"].items()}, kept["record"]


def late_interactions(deployment: Deployment, job_name: str) -> dg.SensorDefinition:
    """Runs again what late interactions changed; off until switched on."""

    @dg.sensor(
        name=named(deployment.project, "late_interactions"),
        job_name=job_name,
        minimum_interval_seconds=LOOK_EVERY,
        description="Runs again the slices whose labels changed after they were run, and every slice after them.",
    )
    def late(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        after = int(context.cursor or 0)
        wanted, newest = late_since(context.instance, deployment.project, after)
        if not wanted:
            return dg.SensorResult(skip_reason="no label changed after its slice was run", cursor=str(newest))
        last = deployment.lake.slices("candidates")[-1]
        reason = f"interactions that came late change labels of {', '.join(wanted)}"
        return dg.SensorResult(
            run_requests=[
                request(
                    wanted[0], last, f"restate {wanted[0]}..{last} after {newest}", reason,
                    **{REPROCESSES: " ".join(wanted)},
                )
            ],
            cursor=str(newest),
        )  # fmt: skip

    return late


def late_since(instance: dg.DagsterInstance, project: Project, after: int) -> tuple[list[str], int]:
    """Slices named late by materialisations after an event, unless run again since; and the newest event looked at."""
    labels = asset_key(project, "candidates")
    found = instance.fetch_materializations(
        dg.AssetRecordsFilter(labels, after_storage_id=after or None), limit=1000, ascending=True
    ).records
    named: dict[str, int] = {}
    for record in found:
        metadata = record.asset_materialization.metadata if record.asset_materialization else {}
        late = metadata[LATE].value if LATE in metadata else None
        if isinstance(late, list):
            named |= {str(key): record.storage_id for key in late}
    latest = instance.get_latest_storage_id_by_partition(
        labels, dg.DagsterEventType.ASSET_MATERIALIZATION, partitions={*named}
    )
    stale = sorted(key for key, event in named.items() if latest.get(key, 0) < event)
    return stale, max((record.storage_id for record in found), default=after)


def stale(deployment: Deployment, first: str) -> list[str]:
    """Slices before one whose labels in the lake are not those that are known now, in order.

    Only what became known from `first` on is looked into, and only slices that the lake has.
    """
    project, kept = deployment.project, deployment.lake.slices("candidates")
    before, after = deployment.log.before(first)
    lists = deployment.log.read("impressions", [key for key in before if key in kept])
    if lists.is_empty():
        return []
    counted = timely(deployment.log.read("interactions", before + after).drop("slice"), project.source)
    changed = []
    for slice in reprocessed(lists, counted, project.slices.window(first)[0], project.labels):
        shown = lists.filter(pl.col("slice") == slice).drop("slice")
        labels = attribute(shown, counted, deployment.project.labels).select(_LABEL)
        if not deployment.lake.read("candidates", [slice], _LABEL).equals(labels):
            changed.append(slice)
    return changed
