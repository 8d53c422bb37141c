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
from pipelines.deployment import Deployment
from pipelines.monitoring.monitors import overdue_slices
from pipelines.triggers.partitions import spanned

TRIES = 3
PAUSE_SECONDS = 1.0
_ANSWERS_WITHIN = 10  # seconds
_LOOK_EVERY = 300  # seconds
_LONGEST = 600  # characters of a sentence


@dataclass(frozen=True)
class Alert:
    """What a person should know of."""

    project: str
    slice: str
    """A slice, or the first and last of a range."""
    about: str
    """An asset, `asset.check`, or a run."""
    level: str
    """`error` where work stopped, else `warning`."""
    sentence: str
    link: str
    """Page of Dagster that shows more."""

    def body(self) -> bytes:
        """As JSON; `text` is all of it in a line, which chat services show."""
        text = f"{self.project} {self.slice}: {self.about}: {self.sentence} {self.link}"
        return json.dumps({**asdict(self), "text": text}, ensure_ascii=False).encode()


def send(alerts: Iterable[Alert], webhook: str, log: logging.Logger) -> None:
    """Log each alert, and post it where there is a webhook; one that does not answer is told to the log."""
    for alert in alerts:
        (log.error if alert.level == "error" else log.warning)(alert.body().decode())
        if webhook:
            trouble = _post(alert, webhook)
            if trouble:
                log.error(f"the alert was not delivered to MOMENTRANK_WEBHOOK: {trouble}")


def _post(alert: Alert, webhook: str) -> str:
    """Empty once it is delivered, else what came in the way."""
    asked = Request(webhook, alert.body(), {"Content-Type": "application/json"}, method="POST")
    trouble = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_SECONDS * 2**attempt)
        try:
            with urlopen(asked, timeout=_ANSWERS_WITHIN):
                return ""
        except (URLError, OSError) as error:
            trouble = str(error)
    return trouble


def of_run(deployment: Deployment, instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[Alert]:
    """Alerts of a run that ended: each check that does not hold, and, where it failed, each step that did.

    Of a run that several projects share, those of this one; of a run of another project, none.
    """
    project, pages = deployment.project.name, deployment.settings.dagster_url
    if not is_of(deployment.project, run):
        return []
    span, ours = spanned(run.tags), step(deployment.project, "")
    slice = " to ".join(dict.fromkeys(span)) if span else "no slice"
    kinds = {dg.DagsterEventType.ASSET_CHECK_EVALUATION, dg.DagsterEventType.STEP_FAILURE}
    records = instance.get_records_for_run(run.run_id, of_type=kinds).records
    events = [record.event_log_entry.dagster_event for record in records]
    found, failed = [], run.status == dg.DagsterRunStatus.FAILURE
    for event in events:
        if event is None:
            continue
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            of_project, asset = check.asset_key.path
            if check.passed or of_project != project:
                continue
            level = "error" if check.severity == dg.AssetCheckSeverity.ERROR else "warning"
            page = f"{pages}/assets/{'/'.join(check.asset_key.path)}?view=checks"
            told = _short(check.description or "does not hold")
            found.append(Alert(project, slice, f"{asset}.{check.check_name}", level, told, page))
        elif failed and (event.step_key or ours).startswith(ours):
            about = (event.step_key or "run").removeprefix(ours)
            found.append(_of_step(project, slice, about, event, f"{pages}/runs/{run.run_id}"))
    if failed and not any(alert.level == "error" for alert in found):
        told = "the run failed, and not in a step of this project"
        found.append(Alert(project, slice, run.job_name, "error", told, f"{pages}/runs/{run.run_id}"))
    return found


def _of_step(project: str, slice: str, about: str, event: dg.DagsterEvent, page: str) -> Alert:
    data = event.step_failure_data
    told = data.user_failure_data.description if data.user_failure_data else None
    said = told or (data.error.message if data.error else "") or "failed"
    return Alert(project, slice, about, "error", _short(said), page)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def _tell(deployment: Deployment, context: dg.RunStatusSensorContext) -> None:
    found = of_run(deployment, context.instance, context.dagster_run)
    send(found, deployment.settings.webhook, context.log)


def sensors(deployment: Deployment) -> list[dg.SensorDefinition]:
    """The three that alert; on from the start where a webhook is named, else off until switched on."""
    project, webhook = deployment.project, deployment.settings.webhook
    status = dg.DefaultSensorStatus.RUNNING if webhook else dg.DefaultSensorStatus.STOPPED

    @dg.run_failure_sensor(
        name=named(project, "failed_runs"),
        default_status=status,
        description="Tells of runs that failed, and of what.",
    )
    def failed_runs(context: dg.RunFailureSensorContext) -> None:
        _tell(deployment, context)

    @dg.run_status_sensor(
        name=named(project, "failed_checks"),
        run_status=dg.DagsterRunStatus.SUCCESS,
        default_status=status,
        description="Tells of checks that do not hold in runs that went on to their end.",
    )
    def failed_checks(context: dg.RunStatusSensorContext) -> None:
        _tell(deployment, context)

    @dg.sensor(
        name=named(project, "missing_slices"),
        minimum_interval_seconds=_LOOK_EVERY,
        default_status=status,
        description="Tells, once each, of slices that could have been run and were not, though nothing failed.",
    )
    def missing_slices(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        overdue = overdue_slices(deployment.lake, deployment.project, datetime.now(UTC))
        if overdue and overdue[-1] > (context.cursor or ""):
            told = f"{len(overdue)} slices could have been run and are not in the lake: is the trigger switched on?"
            page = f"{deployment.settings.dagster_url}/automation"
            span = " to ".join(dict.fromkeys((overdue[0], overdue[-1])))
            alert = Alert(project.name, span, "lake", "warning", told, page)
            send([alert], webhook, context.log)
        return dg.SensorResult(cursor=overdue[-1] if overdue else context.cursor)

    return [failed_runs, failed_checks, missing_slices]
