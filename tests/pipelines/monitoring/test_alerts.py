"""A failure is logged and, with a webhook, posted as one sentence with a link."""

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from pipelines.dagster_names import PROJECT
from pipelines.monitoring import alerts
from pipelines.monitoring.alerts import Alert, alerts_of_run, send
from pipelines.triggers.partitions import range_tags

PAGES = "http://dagster.example"
ALERT = Alert("toy", "2026-01-05", "items.text", "warning", "no text", f"{PAGES}/runs/1")


class Hook:
    """A web server that records posts, after refusing the first few."""

    def __init__(self) -> None:
        self.posted: list[dict[str, str]] = []
        self.refusals = 0
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if hook.refusals:
                    hook.refusals -= 1
                    self.send_error(503)
                    return
                assert self.headers["Content-Type"] == "application/json"
                hook.posted.append(json.loads(body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    monkeypatch.setattr(alerts, "PAUSE_SECONDS", 0.0)
    hook = Hook()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


TABLES: Any = SimpleNamespace(lake=None, project=SimpleNamespace(name="toy"))


def run(instance: dg.DagsterInstance, *, blocking: bool = False, broken: bool = False) -> dg.DagsterRun:
    """A run over two slices: its check fails and, if `broken`, so does its second asset."""

    @dg.asset(key_prefix="toy")
    def items() -> None: ...

    @dg.asset(key_prefix="toy", deps=[items])
    def ranker() -> None:
        if broken:
            raise dg.Failure("nothing was clicked in the window: wait a slice", allow_retries=False)

    @dg.asset_check(asset=items, blocking=blocking)
    def text() -> dg.AssetCheckResult:
        severity = dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN
        return dg.AssetCheckResult(
            passed=False, severity=severity, description="items come with text: 9 % none"
        )

    advance = dg.define_asset_job("advance", tags={PROJECT: "toy"})
    job = dg.Definitions(assets=[items, ranker], asset_checks=[text], jobs=[advance]).resolve_job_def(
        "advance"
    )
    result = job.execute_in_process(
        instance=instance, raise_on_error=False, tags=range_tags("2026-01-05", "2026-01-06")
    )
    return result.dagster_run


def test_an_alert_is_posted_again_until_the_webhook_accepts_it(hook: Hook) -> None:
    hook.refusals = alerts.TRIES - 1
    send([ALERT], hook.url, logging.getLogger("test"))
    (posted,) = hook.posted
    assert {name: posted[name] for name in ("project", "slice", "subject", "level", "message", "link")} == {
        "project": "toy",
        "slice": "2026-01-05",
        "subject": "items.text",
        "level": "warning",
        "message": "no text",
        "link": f"{PAGES}/runs/1",
    }
    assert posted["text"] == f"toy 2026-01-05: items.text: no text {PAGES}/runs/1"


def test_a_failed_delivery_is_logged(hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    hook.refusals = alerts.TRIES
    send([ALERT], hook.url, logging.getLogger("test"))
    assert hook.posted == []
    assert "503" in caplog.text


def test_without_a_webhook_an_alert_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    send([ALERT], "", logging.getLogger("test"))
    assert "no text" in caplog.text


def test_a_failed_check_links_to_its_page(instance: dg.DagsterInstance) -> None:
    (alert,) = alerts_of_run("toy", PAGES, instance, run(instance))
    assert (alert.subject, alert.level) == ("items.text", "warning")
    assert alert.slice == "2026-01-05 to 2026-01-06"
    assert alert.message == "items come with text: 9 % none"
    assert alert.link == f"{PAGES}/assets/toy/items?view=checks"


def test_a_run_of_another_project_raises_no_alert(instance: dg.DagsterInstance) -> None:
    assert alerts_of_run("toys", PAGES, instance, run(instance, broken=True)) == []


def test_a_failed_step_shows_its_error_message(instance: dg.DagsterInstance) -> None:
    failed = run(instance, broken=True)
    by_subject = {alert.subject: alert for alert in alerts_of_run("toy", PAGES, instance, failed)}
    assert set(by_subject) == {"items.text", "ranker"}
    assert by_subject["ranker"].message == "nothing was clicked in the window: wait a slice"
    assert by_subject["ranker"].level == "error"
    assert by_subject["ranker"].link == f"{PAGES}/runs/{failed.run_id}"


def test_a_blocking_check_is_an_error(instance: dg.DagsterInstance) -> None:
    alerts_ = alerts_of_run("toy", PAGES, instance, run(instance, blocking=True))
    assert ("items.text", "error") in {(alert.subject, alert.level) for alert in alerts_}


def test_the_sensors_post_failures_and_each_missing_slice_once(
    hook: Hook, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = alerts.sensors(TABLES, "", PAGES)
    failed_runs, failed_checks, missing = alerts.sensors(TABLES, hook.url, PAGES)
    assert {sensor.default_status for sensor in off} == {dg.DefaultSensorStatus.STOPPED}
    assert failed_runs.default_status == dg.DefaultSensorStatus.RUNNING

    def fire(sensor: Any, run: dg.DagsterRun, event: dg.DagsterEventType) -> None:
        (record,) = instance.get_records_for_run(run.run_id, of_type=event).records
        event_of_run = record.event_log_entry.dagster_event
        sensor(dg.build_run_status_sensor_context(sensor.name, event_of_run, instance, run))

    fire(failed_checks, run(instance), dg.DagsterEventType.RUN_SUCCESS)
    assert [posted["subject"] for posted in hook.posted] == ["items.text"]
    fire(failed_runs, run(instance, broken=True), dg.DagsterEventType.RUN_FAILURE)
    assert [posted["subject"] for posted in hook.posted[1:]] == ["items.text", "ranker"]

    overdue = ["2026-01-07", "2026-01-08"]
    monkeypatch.setattr(alerts, "overdue_slices", lambda *_: overdue)
    cursor = None
    for _ in range(2):
        result = missing(dg.build_sensor_context(instance, cursor=cursor))
        assert isinstance(result, dg.SensorResult)
        cursor = result.cursor
    (posted,) = hook.posted[3:]
    assert posted["slice"] == "2026-01-07 to 2026-01-08"
    assert cursor == "2026-01-08"
