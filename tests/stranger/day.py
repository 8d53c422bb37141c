"""A new user's first steps in a clone: open the pages, materialise a slice, look at the versions, press Ctrl-C.

Run in a clone after `make setup`: `.venv/bin/python tests/stranger/day.py`. Needs `make`; writes to the clone's home.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil

from pipelines.dagster_names import named
from pipelines.definitions import JOB, define
from pipelines.deployment import Deployment
from pipelines.settings import settings as settings_of

SMALL = (
    "source.newsroom.days=2",
    "source.newsroom.users=30",
    "source.newsroom.articles_a_day=12",
    "source.newsroom.impressions_a_day=80",
    "source.newsroom.list_size=8",
    "slices.end=2026-01-07T00:00:00Z",
    "interest.epochs=1",
    "interest.max_tokens=16",
    "ranker.num_iterations=20",
    "lists.users=5",
    "lists.pool=20",
)
SLICE = "2026-01-05"
TIMEOUT = 240
"""Seconds to wait for a server or a run on a busy machine."""

LAUNCH = """
mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
STATUS = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"


class Failure(Exception):
    """A step that did not work for a new user."""


def main() -> None:
    """Go through all steps. Raises Failure at the first that does not work."""
    dagster, mlflow = (f"http://127.0.0.1:{_free_port()}" for _ in range(2))
    os.environ |= {
        "MOMENTRANK_SET": "\n".join(SMALL),
        "MOMENTRANK_DAGSTER_URL": dagster,
        "MOMENTRANK_MLFLOW_URL": mlflow,
    }
    settings = settings_of.load()
    project = settings.open_project()
    expected = define(Deployment(project, settings)).resolve_asset_graph().get_all_asset_keys()
    pages = subprocess.Popen(
        ["make", "ui"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        _wait(f"{mlflow}/health answers", lambda: urlopen(f"{mlflow}/health", timeout=5).status == 200)
        names = {key.to_user_string() for key in expected}
        _wait(f"Dagster shows {len(names)} assets", lambda: _assets(dagster) == names)
        run = _launch(dagster, named(project.name, JOB))
        _wait(f"run {run} of slice {SLICE} succeeds", lambda: _succeeded(dagster, run))
        versions = set(_versions(mlflow))
        if versions != {(f"{project.name}-{kind}", "1") for kind in ("ranker", "interest")}:
            raise Failure(f"expected one version of each model, MLflow has {sorted(versions)}")
        _print(f"MLflow has {', '.join(f'{model} {version}' for model, version in sorted(versions))}")
    finally:
        _interrupt(pages, settings.logs)


def _interrupt(pages: subprocess.Popen[str], logs: Path) -> None:
    """Press Ctrl-C. Raises Failure if a process stays alive or the output holds a warning or traceback."""
    started = psutil.Process(pages.pid).children(recursive=True)
    os.killpg(pages.pid, signal.SIGINT)
    output, _ = pages.communicate(timeout=TIMEOUT)
    print(output, flush=True)
    _, left = psutil.wait_procs(started, timeout=30)
    if left:
        raise Failure(f"Ctrl-C left processes: {[process.cmdline() for process in left]}")
    if "warning" in output.lower() or "traceback" in output.lower():
        raise Failure(f"`make ui` printed a warning or traceback, which belongs in {logs}")
    _print(f"Ctrl-C ended all {len(started)} processes")


def _assets(dagster: str) -> set[str]:
    nodes = _query(dagster, "{ assetNodes { assetKey { path } } }")["assetNodes"]
    return {"/".join(node["assetKey"]["path"]) for node in nodes}


def _launch(dagster: str, job: str) -> str:
    selector = {
        "repositoryName": "__repository__",
        "repositoryLocationName": "momentrank",
        "pipelineName": job,
    }
    tags = [{"key": "dagster/partition", "value": SLICE}]
    params = {"selector": selector, "executionMetadata": {"tags": tags}}
    launched = _query(dagster, LAUNCH, params=params)["launchRun"]
    if launched["__typename"] != "LaunchRunSuccess":
        raise Failure(f"Dagster does not launch slice {SLICE}: {launched}")
    return str(launched["run"]["runId"])


def _succeeded(dagster: str, run: str) -> bool:
    status = _query(dagster, STATUS, run=run)["runOrError"]["status"]
    if status in ("FAILURE", "CANCELED"):
        raise Failure(f"run {run} ended with status {status}")
    return bool(status == "SUCCESS")


def _versions(mlflow: str) -> list[tuple[str, str]]:
    response = json.load(
        urlopen(f"{mlflow}/api/2.0/mlflow/model-versions/search?max_results=100", timeout=30)
    )
    return [(version["name"], version["version"]) for version in response["model_versions"]]


def _query(dagster: str, query: str, **variables: Any) -> dict[str, Any]:
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = Request(f"{dagster}/graphql", body, {"Content-Type": "application/json"})
    response = json.load(urlopen(request, timeout=30))
    if "errors" in response:
        raise Failure(f"Dagster: {response['errors']}")
    data: dict[str, Any] = response["data"]
    return data


def _wait(expected: str, condition: Callable[[], bool]) -> None:
    """Poll until the condition is true; a server that does not answer yet counts as false. Raises Failure."""
    began, last_error = time.monotonic(), ""
    while time.monotonic() - began < TIMEOUT:
        try:
            if condition():
                return _print(f"{expected}, after {time.monotonic() - began:.0f} s")
        except OSError as error:
            last_error = f": {error}"
        time.sleep(0.5)
    raise Failure(f"not within {TIMEOUT} s: {expected}{last_error}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _print(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"failed: {failure}")
