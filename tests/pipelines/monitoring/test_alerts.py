"""What failed reaches a webhook as one sentence with a link, and without a webhook the log alone."""

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
from pipelines.monitoring.alerts import Alert, of_run, send
from pipelines.triggers.partitions import span

PAGES = "http://dagster.example"
ALERT = Alert("toy", "2026-01-05", "items.text", "warning", "no text", f"{PAGES}/runs/1")


class Hook:
    """A web server that keeps what it is posted, after refusing some."""

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
    made = Hook()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as found:
        yield found


def deployment(webhook: str = "", project: str = "toy") -> Any:
    settings = SimpleNamespace(dagster_url=PAGES, webhook=webhook)
    return SimpleNamespace(lake=None, project=SimpleNamespace(name=project), settings=settings)


def run(instance: dg.DagsterInstance, *, blocking: bool = False, broken: bool = False) -> dg.DagsterRun:
    """A run of two slices whose check does not hold, and whose second table may break."""

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
        instance=instance, raise_on_error=False, tags=span("2026-01-05", "2026-01-06")
    )
    return result.dagster_run


def test_an_alert_is_posted_once_it_is_taken(hook: Hook) -> None:
    hook.refusals = alerts.TRIES - 1
    send([ALERT], hook.url, logging.getLogger("test"))
    (posted,) = hook.posted
    assert {name: posted[name] for name in ("project", "slice", "about", "level", "sentence", "link")} == {
        "project": "toy",
        "slice": "2026-01-05",
        "about": "items.text",
        "level": "warning",
        "sentence": "no text",
        "link": f"{PAGES}/runs/1",
    }
    assert posted["text"] == f"toy 2026-01-05: items.text: no text {PAGES}/runs/1"


def test_a_webhook_that_does_not_answer_is_told_to_the_log(
    hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    hook.refusals = alerts.TRIES
    send([ALERT], hook.url, logging.getLogger("test"))
    assert hook.posted == []
    assert "503" in caplog.text


def test_without_a_webhook_an_alert_is_logged_alone(caplog: pytest.LogCaptureFixture) -> None:
    send([ALERT], "", logging.getLogger("test"))
    assert "no text" in caplog.text


def test_a_check_that_does_not_hold_is_told_with_its_page(instance: dg.DagsterInstance) -> None:
    (alert,) = of_run(deployment(), instance, run(instance))
    assert (alert.about, alert.level) == ("items.text", "warning")
    assert alert.slice == "2026-01-05 to 2026-01-06"
    assert alert.sentence == "items come with text: 9 % none"
    assert alert.link == f"{PAGES}/assets/toy/items?view=checks"


def test_a_run_of_another_project_is_not_told(instance: dg.DagsterInstance) -> None:
    assert of_run(deployment(project="toys"), instance, run(instance, broken=True)) == []


def test_a_step_that_failed_is_told_in_the_error_s_own_words(instance: dg.DagsterInstance) -> None:
    failed = run(instance, broken=True)
    found = {alert.about: alert for alert in of_run(deployment(), instance, failed)}
    assert set(found) == {"items.text", "ranker"}
    assert found["ranker"].sentence == "nothing was clicked in the window: wait a slice"
    assert found["ranker"].level == "error"
    assert found["ranker"].link == f"{PAGES}/runs/{failed.run_id}"


def test_a_blocking_check_is_an_error(instance: dg.DagsterInstance) -> None:
    found = of_run(deployment(), instance, run(instance, blocking=True))
    assert ("items.text", "error") in {(alert.about, alert.level) for alert in found}


def test_the_sensors_post_what_happened_and_a_missing_slice_once(
    hook: Hook, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = alerts.sensors(deployment())
    failed_runs, failed_checks, missing = alerts.sensors(deployment(hook.url))
    assert {sensor.default_status for sensor in off} == {dg.DefaultSensorStatus.STOPPED}
    assert failed_runs.default_status == dg.DefaultSensorStatus.RUNNING

    def tell(sensor: Any, ended: dg.DagsterRun, event: dg.DagsterEventType) -> None:
        (record,) = instance.get_records_for_run(ended.run_id, of_type=event).records
        context = dg.build_run_status_sensor_context(
            sensor.name, record.event_log_entry.dagster_event, instance, ended
        )
        failure = event == dg.DagsterEventType.RUN_FAILURE
        sensor(context.for_run_failure() if failure else context)

    tell(failed_checks, run(instance), dg.DagsterEventType.RUN_SUCCESS)
    assert [posted["about"] for posted in hook.posted] == ["items.text"]
    tell(failed_runs, run(instance, broken=True), dg.DagsterEventType.RUN_FAILURE)
    assert [posted["about"] for posted in hook.posted[1:]] == ["items.text", "ranker"]

    overdue = ["2026-01-07", "2026-01-08"]
    monkeypatch.setattr(alerts, "overdue_slices", lambda *_: overdue)
    cursor = None
    for _ in range(2):
        found = missing(dg.build_sensor_context(instance, cursor=cursor))
        assert isinstance(found, dg.SensorResult)
        cursor = found.cursor
    (posted,) = hook.posted[3:]
    assert posted["slice"] == "2026-01-07 to 2026-01-08"
    assert cursor == "2026-01-08"
