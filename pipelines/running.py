"""Running the definitions: in this process over a range of slices, or behind the two web pages."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlparse

from pipelines.deployment import Deployment
from pipelines.preflight import last_with_events, preflight
from pipelines.settings import REPOSITORY, environment
from pipelines.timetable import chosen, span

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def materialise(deployment: Deployment, since: str | None, until: str | None) -> str:
    """Run every asset over [since, until] in this process, recorded in the instance that the UI opens.

    By default from the first slice to the last complete one; without `slices.end`, to the last with events: only a
    schedule or a landing folder goes on after the logs end. Returns the last slice.
    """
    import dagster as dg

    from pipelines.definitions import JOB, define
    from pipelines.liveness import fail_dead

    project = deployment.project
    first, last = chosen(project, since, until, datetime.now(UTC))
    preflight(deployment)
    # Opened before anything else: minutes of work should not end at an address that is wrong.
    deployment.registry.prepare()
    deployment.require_versions(first)
    if until is None and project.slices.end is None:
        # Only the logs know where they end: they are read here, and once more by the run.
        last = min(last, max(first, last_with_events(deployment.ingest(), project)))
    deployment.tell(f"{project.name}: slices {first} to {last}")
    with dg.DagsterInstance.get() as instance:
        fail_dead(instance)
        job = define(deployment).resolve_job_def(JOB)
        try:
            job.execute_in_process(instance=instance, run_config=_QUIET, tags=span(first, last))
        except (dg.Failure, dg.RetryRequested) as failure:
            # Said once, as the error that a person can mend; the page of the run has it too.
            raise failure.__cause__ or failure from None
    return last


def serve(deployment: Deployment, host: str, say: Callable[[str], None]) -> None:
    """Start the Dagster and MLflow servers on `host` and wait; Ctrl-C, or the end of one, ends both."""
    settings = deployment.settings
    deployment.registry.prepare()
    dagster, mlflow = urlparse(settings.dagster_url), urlparse(settings.mlflow_url)
    commands = (
        [sys.executable, "-m", "dagster", "dev", "-w", str(REPOSITORY / "workspace.yaml"),
         "--host", host, "--port", str(dagster.port or 3000)],
        [sys.executable, "-m", "mlflow", "server", "--host", host,
         "--port", str(mlflow.port or 5000), "--workers", "1"],
    )  # fmt: skip
    say(f"Dagster  {settings.dagster_url}   assets, checks, runs, schedules")
    say(f"MLflow   {settings.mlflow_url}   model versions, metrics, reports")
    say("Ctrl-C stops both.")
    servers = [
        subprocess.Popen(command, env=environment(settings), start_new_session=True) for command in commands
    ]
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        while all(server.poll() is None for server in servers):
            try:
                servers[0].wait(timeout=1)
            except subprocess.TimeoutExpired:
                continue
    except KeyboardInterrupt:
        say("stopping")
    finally:
        for server in servers:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)
        for server in servers:
            server.wait(timeout=30)
