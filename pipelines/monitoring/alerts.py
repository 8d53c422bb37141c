"""Alerts: what failed, in a sentence with a link, logged and posted as JSON to `MOMENTRANK_WEBHOOK`."""

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from urllib.error import URLError
from urllib.request import Request, urlopen

import dagster as dg

from pipelines.dagster_names import is_of, named, step
from pipelines.monitoring.monitors import overdue_slices
from pipelines.slice_tables import SliceTables
from pipelines.triggers.partitions import partition_range

TRIES = 3
PAUSE_SECONDS = 1.0
_TIMEOUT_SECONDS = 10
_INTERVAL_SECONDS = 300
_MAX_MESSAGE_LENGTH = 2000


@dataclass(frozen=True)
class Alert:
    """A failure that a person should look at."""

    project: str
    slice: str
    """A slice, or the first and last of a range."""
    subject: str
    """An asset, `asset.check`, or a run."""
    level: str
    """`error` where work stopped, else `warning`."""
    message: str
    link: str
    """Dagster page with the details."""

    def body(self) -> bytes:
        """The alert as JSON, with a one-line `text` field, which chat services display."""
        text = f"{self.project} {self.slice}: {self.subject}: {self.message} {self.link}"
        return json.dumps({**asdict(self), "text": text}, ensure_ascii=False).encode()


def send(alerts: Iterable[Alert], webhook: str, log: logging.Logger) -> None:
    """Log each alert and post it to the webhook, if there is one; a failed delivery is logged."""
    for alert in alerts:
        (log.error if alert.level == "error" else log.warning)(alert.body().decode())
        if webhook and (error := _post(alert, webhook)):
            log.error(f"the alert was not delivered to MOMENTRANK_WEBHOOK: {error}")


def _post(alert: Alert, webhook: str) -> str:
    """Post with retries. Returns the last error, or an empty string once delivered."""
    request = Request(webhook, alert.body(), {"Content-Type": "application/json"}, method="POST")
    last_error = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_SECONDS * 2**attempt)
        try:
            with urlopen(request, timeout=_TIMEOUT_SECONDS):
                return ""
        except (URLError, OSError) as error:
            last_error = str(error)
    return last_error


def alerts_of_run(project: str, pages: str, instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[Alert]:
    """Alerts of a finished run: one per failed check and, if the run failed, one per failed step.

    Only this project's part of a run that several projects share; nothing for another project's run. `pages`: address
    of Dagster's pages.
    """
    if not is_of(project, run):
        return []
    slices, prefix = partition_range(run.tags), step(project, "")
    slice = " to ".join(dict.fromkeys(slices)) if slices else "no slice"
    kinds = {dg.DagsterEventType.ASSET_CHECK_EVALUATION, dg.DagsterEventType.STEP_FAILURE}
    records = instance.get_records_for_run(run.run_id, of_type=kinds).records
    alerts, failed = list[Alert](), run.status == dg.DagsterRunStatus.FAILURE
    for event in (record.event_log_entry.dagster_event for record in records):
        if event is None:
            continue
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            check_project, asset = check.asset_key.path
            if check.passed or check_project != project:
                continue
            level = "error" if check.severity == dg.AssetCheckSeverity.ERROR else "warning"
            page = f"{pages}/assets/{'/'.join(check.asset_key.path)}?view=checks"
            message = _shortened(check.description or "the check failed")
            alerts.append(Alert(project, slice, f"{asset}.{check.check_name}", level, message, page))
        elif failed and (event.step_key or prefix).startswith(prefix):
            subject, data = (event.step_key or "run").removeprefix(prefix), event.step_failure_data
            description = data.user_failure_data.description if data.user_failure_data else None
            message = _shortened(description or (data.error.message if data.error else "") or "failed")
            alerts.append(Alert(project, slice, subject, "error", message, f"{pages}/runs/{run.run_id}"))
    if failed and not any(alert.level == "error" for alert in alerts):
        message = "the run failed outside this project's steps"
        alerts.append(Alert(project, slice, run.job_name, "error", message, f"{pages}/runs/{run.run_id}"))
    return alerts


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_MESSAGE_LENGTH else f"{line[:_MAX_MESSAGE_LENGTH]}…"


def sensors(tables: SliceTables, webhook: str, pages: str) -> list[dg.SensorDefinition]:
    """The three alerting sensors; they start switched on if a webhook is set, else switched off.

    `pages`: address of Dagster's pages.
    """
    project = tables.project.name
    status = dg.DefaultSensorStatus.RUNNING if webhook else dg.DefaultSensorStatus.STOPPED

    def of_runs(name: str, runs: dg.DagsterRunStatus, description: str) -> dg.SensorDefinition:
        @dg.run_status_sensor(
            run_status=runs, name=named(project, name), default_status=status, description=description
        )
        def alert(context: dg.RunStatusSensorContext) -> None:
            send(alerts_of_run(project, pages, context.instance, context.dagster_run), webhook, context.log)

        return alert

    @dg.sensor(
        name=named(project, "missing_slices"),
        minimum_interval_seconds=_INTERVAL_SECONDS,
        default_status=status,
        description="Alerts once for each slice that is overdue although no run failed.",
    )
    def missing_slices(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        overdue = overdue_slices(tables, datetime.now(UTC))
        if overdue and overdue[-1] > (context.cursor or ""):
            message = f"{len(overdue)} slices are overdue in the lake: check that the trigger is switched on"
            page = f"{pages}/automation"
            slices = " to ".join(dict.fromkeys((overdue[0], overdue[-1])))
            send([Alert(project, slices, "lake", "warning", message, page)], webhook, context.log)
        return dg.SensorResult(cursor=overdue[-1] if overdue else context.cursor)

    return [
        of_runs(
            "failed_runs", dg.DagsterRunStatus.FAILURE, "Alerts for failed runs: the failed steps and checks."
        ),
        of_runs(
            "failed_checks", dg.DagsterRunStatus.SUCCESS, "Alerts for failed checks in runs that succeeded."
        ),
        missing_slices,
    ]
