"""A stranger's first day with a clone: open the pages, materialise a slice, look at its versions, leave.

Run in a clone that is set up: `.venv/bin/python tests/stranger/day.py`. Needs `make`; writes to the clone's home.
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
PATIENCE = 240
"""Seconds that a server or the run may take on a busy machine."""

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
    """Something that a stranger would have stopped at."""


def main() -> None:
    """Raises Failure at the first thing that is not as it should be."""
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
        run = _launch(dagster, named(project, JOB))
        _wait(f"run {run} of slice {SLICE} succeeds", lambda: _succeeded(dagster, run))
        found = {(model, version) for model, version in _versions(mlflow)}
        if found != {(f"{project.name}-{kind}", "1") for kind in ("ranker", "interest")}:
            raise Failure(f"MLflow has other versions than one of each model: {sorted(found)}")
        _say(f"MLflow has {', '.join(f'{model} {version}' for model, version in sorted(found))}")
    finally:
        _leave(pages, settings.logs)


def _leave(pages: subprocess.Popen[str], logs: Path) -> None:
    """Press Ctrl-C; raises Failure where a process stays or something was said that is not for a reader."""
    started = psutil.Process(pages.pid).children(recursive=True)
    os.killpg(pages.pid, signal.SIGINT)
    said, _ = pages.communicate(timeout=PATIENCE)
    print(said, flush=True)
    _, left = psutil.wait_procs(started, timeout=30)
    if left:
        raise Failure(f"Ctrl-C left processes: {[process.cmdline() for process in left]}")
    if "warning" in said.lower() or "traceback" in said.lower():
        raise Failure(f"`make ui` shows what is for {logs}")
    _say(f"Ctrl-C ended all {len(started)} processes")


def _assets(dagster: str) -> set[str]:
    nodes = _ask(dagster, "{ assetNodes { assetKey { path } } }")["assetNodes"]
    return {"/".join(node["assetKey"]["path"]) for node in nodes}


def _launch(dagster: str, job: str) -> str:
    where = {
        "repositoryName": "__repository__",
        "repositoryLocationName": "momentrank",
        "pipelineName": job,
    }
    tags = [{"key": "dagster/partition", "value": SLICE}]
    params = {"selector": where, "executionMetadata": {"tags": tags}}
    answer = _ask(dagster, LAUNCH, params=params)["launchRun"]
    if answer["__typename"] != "LaunchRunSuccess":
        raise Failure(f"Dagster does not launch slice {SLICE}: {answer}")
    return str(answer["run"]["runId"])


def _succeeded(dagster: str, run: str) -> bool:
    status = _ask(dagster, STATUS, run=run)["runOrError"]["status"]
    if status in ("FAILURE", "CANCELED"):
        raise Failure(f"run {run} ended as {status}")
    return bool(status == "SUCCESS")


def _versions(mlflow: str) -> list[tuple[str, str]]:
    answer = json.load(urlopen(f"{mlflow}/api/2.0/mlflow/model-versions/search?max_results=100", timeout=30))
    return [(one["name"], one["version"]) for one in answer["model_versions"]]


def _ask(dagster: str, query: str, **variables: Any) -> dict[str, Any]:
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = Request(f"{dagster}/graphql", body, {"Content-Type": "application/json"})
    answer = json.load(urlopen(request, timeout=30))
    if "errors" in answer:
        raise Failure(f"Dagster: {answer['errors']}")
    data: dict[str, Any] = answer["data"]
    return data


def _wait(what: str, holds: Callable[[], bool]) -> None:
    """Ask until it holds; what does not answer yet is asked again. Raises Failure."""
    began, trouble = time.monotonic(), ""
    while time.monotonic() - began < PATIENCE:
        try:
            if holds():
                return _say(f"{what}, after {time.monotonic() - began:.0f} s")
        except OSError as error:
            trouble = f": {error}"
        time.sleep(0.5)
    raise Failure(f"not within {PATIENCE} s: {what}{trouble}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"failed: {failure}")
