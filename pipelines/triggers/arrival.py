"""Sensors that request runs: for files in the landing folder, and for late-arriving interactions."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl

from features.config.slices import Slices
from features.events.labels import attribute, reprocessed, timely
from pipelines.dagster_names import asset_key, named
from pipelines.deployment import Deployment
from pipelines.event_log import EventLog, Record
from pipelines.landing import Landing, Stamp, open_landing, settled
from pipelines.slice_tables import SliceTables
from pipelines.triggers.partitions import LAST_TABLE, REPROCESSES, complete, due, request, under_way

_INTERVAL_SECONDS = 30
_LABEL = ["impression_id", "item_id", "label"]
LATE = "late_slices"
"""Metadata of `candidates`: earlier slices whose labels in the lake are out of date."""


def arrivals(deployment: Deployment, job_name: str) -> dg.SensorDefinition:
    """The landing folder's sensor; starts switched off."""

    @dg.sensor(
        name=named(deployment.project.name, "arriving_logs"),
        job_name=job_name,
        minimum_interval_seconds=_INTERVAL_SECONDS,
        description="Parses new files and runs the complete slices that they touch, and all slices after those.",
    )
    def arriving_logs(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        landing = open_landing(deployment.project, deployment.settings.home)
        if landing is None:
            return dg.SensorResult(skip_reason="the project declares no source.landing")
        now = datetime.now(UTC)
        # The previous listing of the landing folder, and the number of the last record handled.
        cursor = json.loads(context.cursor or '{"seen": {}, "record": 0}')
        previous = {name: (stamp[0], stamp[1]) for name, stamp in cursor["seen"].items()}
        listing = landing.look()
        messages = take_in(landing, deployment.log, previous, listing)
        for message in messages:
            context.log.info(message)
        records = deployment.log.records()
        project = deployment.project
        keys = complete(project.slices, project.labels.attribution, now)
        stored = deployment.lake.slices(LAST_TABLE)
        running = under_way(context.instance, job_name, keys)
        ranges, too_old = ranges_to_run(
            records, cursor["record"], keys, stored, running, project.slices, project.source.allowed_lateness
        )
        if too_old:
            context.log.warning(
                f"events of {', '.join(too_old)} arrived later than source.allowed_lateness and were ignored: "
                "to use them, materialise these slices and all slices after them by hand"
            )
        number = records[-1].number if records else 0
        return dg.SensorResult(
            run_requests=[
                _request_arrived(first, last, f"{first}..{last} after file {number}", stored)
                for first, last in ranges
            ],
            skip_reason=None if ranges else "; ".join(messages) or "nothing new to run",
            cursor=json.dumps({"seen": listing, "record": number}),
        )

    return arriving_logs


def take_in(
    landing: Landing, log: EventLog, previous: dict[str, Stamp], listing: dict[str, Stamp]
) -> list[str]:
    """Parse each new file that has not changed since the previous listing; one message per file."""
    parsed = {(record.path, record.size, record.stamp) for record in log.records()}
    messages = []
    for name in settled(previous, listing):
        path, stamp = landing.place(name), listing[name]
        if (path, *stamp) in parsed:
            continue
        with landing.opened(name) as file:
            record = log.arrive(name, file, path, *stamp)
        if record.refused:
            messages.append(f"{name} was refused: {record.refused}")
        else:
            slices = ", ".join(record.slices) or "no slice"
            messages.append(f"{name} was parsed: {record.rows:,} rows, of {slices}")
    return messages


def ranges_to_run(
    records: Iterable[Record],
    since: int,
    complete: Sequence[str],
    stored: Sequence[str],
    running: Iterable[str],
    slices: Slices,
    allowed_lateness: timedelta,
) -> tuple[list[tuple[str, str]], list[str]]:
    """Ranges of slices to run now, and the slices whose new events arrived too late to use.

    `complete`, `stored` and `running` are slice keys; `since` is the number of the last record already handled.
    A stored slice is run again if a newer record touches it within `source.allowed_lateness` of the newest stored
    slice. Another slice is run if a record touches it or a later slice, and it is not running.
    """
    records = [*records]
    reached = max((key for record in records for key in record.slices if key in complete), default="")
    new = {key for record in records if record.number > since for key in record.slices if key in complete}
    too_old: list[str] = []
    if stored:
        newest, _ = slices.window(stored[-1])
        too_old = sorted(key for key in new & {*stored} if slices.window(key)[1] + allowed_lateness < newest)
    again = new - {*too_old}
    end = max([reached, *stored]) if again & {*stored} else reached
    following = [key for key in complete if key <= end]
    return due(following, {*stored} - again, {*running} - again), too_old


def _request_arrived(first: str, last: str, run_key: str, stored: Sequence[str]) -> dg.RunRequest:
    again = [key for key in stored if first <= key <= last]
    tags = {REPROCESSES: " ".join(again)} if again else {}
    return request(first, last, run_key, "new logs arrived", **tags)


def late_interactions(deployment: Deployment, job_name: str) -> dg.SensorDefinition:
    """Sensor that reprocesses slices whose labels late-arriving interactions changed; starts switched off."""

    @dg.sensor(
        name=named(deployment.project.name, "late_interactions"),
        job_name=job_name,
        minimum_interval_seconds=_INTERVAL_SECONDS,
        description="Reprocesses the slices whose labels changed after they were run, and every slice after them.",
    )
    def late(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        after = int(context.cursor or 0)
        keys, newest = late_since(context.instance, deployment.project.name, after)
        if not keys:
            return dg.SensorResult(skip_reason="no label changed after its slice was run", cursor=str(newest))
        last = deployment.lake.slices("candidates")[-1]
        run_key = f"reprocess {keys[0]}..{last} after {newest}"
        reason = f"late-arriving interactions change labels of {', '.join(keys)}"
        tags = {REPROCESSES: " ".join(keys)}
        return dg.SensorResult(
            run_requests=[request(keys[0], last, run_key, reason, **tags)], cursor=str(newest)
        )

    return late


def late_since(instance: dg.DagsterInstance, project: str, after: int) -> tuple[list[str], int]:
    """Slices reported late by materialisations after an event and not run again since, and the newest event read."""
    labels = asset_key(project, "candidates")
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(labels, after_storage_id=after or None), limit=1000, ascending=True
    ).records
    reported: dict[str, int] = {}
    for record in records:
        metadata = record.asset_materialization.metadata if record.asset_materialization else {}
        late = metadata[LATE].value if LATE in metadata else None
        if isinstance(late, list):
            reported |= {str(key): record.storage_id for key in late}
    latest = instance.get_latest_storage_id_by_partition(
        labels, dg.DagsterEventType.ASSET_MATERIALIZATION, partitions={*reported}
    )
    outdated = sorted(key for key, event in reported.items() if latest.get(key, 0) < event)
    return outdated, max((record.storage_id for record in records), default=after)


def outdated_labels(log: EventLog, tables: SliceTables, first: str) -> list[str]:
    """Slices before `first` whose stored labels differ from the labels that the event log now gives, in order.

    Only stored slices that interactions known from `first` on can change are compared.
    """
    project, stored = tables.project, tables.lake.slices("candidates")
    before, after = log.before(first)
    impressions = log.read("impressions", [key for key in before if key in stored])
    if impressions.is_empty():
        return []
    interactions = timely(log.read("interactions", before + after).drop("slice"), project.source)
    start, changed = project.slices.window(first)[0], []
    for slice in reprocessed(impressions, interactions, start, project.labels):
        shown = impressions.filter(pl.col("slice") == slice).drop("slice")
        labels = attribute(shown, interactions, project.labels).select(_LABEL)
        if not tables.lake.read("candidates", [slice], _LABEL).equals(labels):
            changed.append(slice)
    return changed
