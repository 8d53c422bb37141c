"""Killed runs are detected; live ones are left alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import dagster as dg
import pytest
import yaml

from pipelines import liveness
from pipelines.definitions import define
from pipelines.deployment import Deployment
from pipelines.settings.dagster_instance import DAGSTER_YAML
from pipelines.triggers.partitions import range_tags, under_way

STEP = """
import os, signal, sys
import dagster as dg
from pipelines import liveness

with dg.DagsterInstance.from_config(sys.argv[1]) as instance, liveness.mark_alive(instance, sys.argv[2]):
    os.kill(os.getpid(), signal.SIGKILL)
"""
SLEEPER = """
import sys, time
import dagster as dg
from pipelines import liveness

@dg.resource
def alive(context):
    with liveness.mark_alive(context.instance, context.run_id):
        yield

@dg.op(required_resource_keys={"alive"})
def sleep():
    time.sleep(600)

@dg.job(resource_defs={"alive": alive})
def sleeper():
    sleep()

with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    first = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "b"}
    sleeper.execute_in_process(instance=instance, tags=first)
"""


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    settings = yaml.safe_load(DAGSTER_YAML)
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({"run_launcher": settings["run_launcher"]}))
    with dg.DagsterInstance.from_config(str(tmp_path)) as opened:
        opened.upgrade()
        yield opened


@pytest.fixture
def killed(instance: dg.DagsterInstance) -> Iterator[Callable[[], dg.DagsterRun]]:
    """Starts a run in its own process; calling the fixture kills that process and returns the run."""
    child = subprocess.Popen([sys.executable, "-c", SLEEPER, instance.root_directory])
    running = Path(instance.root_directory, "running")
    while not any(running.glob("*")):
        assert child.poll() is None
        time.sleep(0.05)

    def kill() -> dg.DagsterRun:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        (run,) = instance.get_runs()
        return run

    yield kill
    child.kill()
    child.wait()


def test_a_killed_run_is_failed_and_a_live_one_is_not(
    instance: dg.DagsterInstance, killed: Callable[[], dg.DagsterRun]
) -> None:
    assert under_way(instance, "sleeper", ["a", "b", "c"]) == {"a", "b"}
    run = killed()
    assert run.status == dg.DagsterRunStatus.STARTED
    assert under_way(instance, "sleeper", ["a", "b", "c"]) == set()
    (run,) = instance.get_runs()
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert not [*Path(instance.root_directory, "running").iterdir()]


def test_dagsters_monitoring_detects_a_killed_run(
    instance: dg.DagsterInstance, killed: Callable[[], dg.DagsterRun]
) -> None:
    launcher = instance.run_launcher
    (run,) = instance.get_runs()
    assert launcher.supports_check_run_worker_health
    assert launcher.check_run_worker_health(run).status.value == "RUNNING"
    assert launcher.check_run_worker_health(killed()).status.value == "FAILED"


def test_a_run_survives_a_killed_step(instance: dg.DagsterInstance) -> None:
    @dg.job
    def empty_job() -> None: ...

    run = instance.create_run_for_job(empty_job, status=dg.DagsterRunStatus.STARTED)

    def execute(*_: object) -> Iterator[list[str]]:
        subprocess.run([sys.executable, "-c", STEP, instance.root_directory, run.run_id], check=False)
        yield liveness.fail_dead(instance)

    executor = liveness.AliveExecutor(Mock(execute=execute))
    assert [*executor.execute(SimpleNamespace(instance=instance, run_id=run.run_id), None)] == [[]]
    assert not [*Path(instance.root_directory, "running").iterdir()]


def test_a_run_on_another_machine_is_dead_without_heartbeats(instance: dg.DagsterInstance) -> None:
    @dg.job
    def empty_job() -> None: ...

    run = instance.create_run_for_job(
        empty_job, tags=range_tags("a", "a"), status=dg.DagsterRunStatus.STARTED
    )
    assert liveness.fail_dead(instance) == []
    beat = {f"momentrank/heartbeat/{run.run_id}": str(time.time() - 30)}
    instance.run_storage.set_cursor_values(beat)
    assert liveness.fail_dead(instance) == []
    instance.run_storage.set_cursor_values({key: str(time.time() - 61) for key in beat})
    assert liveness.fail_dead(instance) == [run.run_id]


def test_a_run_of_the_definitions_is_marked_alive(
    tmp_path: Path, small_newsroom: Callable[..., Deployment], instance: dg.DagsterInstance
) -> None:
    locks: list[list[Path]] = []

    @dg.op
    def look(newsroom_deployment: dg.ResourceParam[Deployment]) -> None:
        assert newsroom_deployment.project.name == "newsroom"
        locks.append([*Path(instance.root_directory, "running").iterdir()])

    @dg.job(resource_defs=define(small_newsroom(tmp_path / "home")).resources)
    def list_locks() -> None:
        look()

    result = list_locks.execute_in_process(instance=instance)
    assert [file.name for file in locks[0]] == [result.run_id]
    assert not locks[0][0].exists()
