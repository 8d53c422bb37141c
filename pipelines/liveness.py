"""Detect runs whose process died: Dagster leaves them STARTED.

While a run is in progress, its process locks the file `DAGSTER_HOME/running/RUN_ID`; the operating system releases the
lock however the process ends. With one process per step the parent has the lock: a step may be killed and the run goes
on. A machine with another home does not see the file and reads the heartbeat in Dagster's storage. Call `fail_dead`
before listing runs in progress; for runs launched from the web page, Dagster's monitoring daemon asks `Launcher`.
"""

import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus

BEAT_SECONDS = 20.0
SILENT_SECONDS = 60.0
"""Seconds without a heartbeat after which a run on another machine counts as dead."""

_STARTED = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


@contextmanager
def mark_alive(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Mark a run as alive while inside; does nothing if another process already does."""
    file = _file(instance, run_id)
    if file.exists() and _dead_process(instance, run_id) is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    ended = threading.Event()
    with draft.open("w", encoding="utf-8") as handle:
        handle.write(f"process {os.getpid()} on {socket.gethostname()}")
        handle.flush()
        fcntl.flock(handle, fcntl.LOCK_EX)
        draft.replace(file)  # visible only when locked
        threading.Thread(target=_beat, args=(instance, run_id, ended), daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            file.unlink(missing_ok=True)


def fail_dead(instance: dg.DagsterInstance) -> list[str]:
    """Mark every run whose process is gone as failed, so that nothing waits for it. Returns their ids."""
    runs = instance.get_runs(dg.RunsFilter(statuses=_STARTED))
    return [run.run_id for run in runs if fail_if_dead(instance, run)]


def fail_if_dead(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Mark a run failed (or cancelled, if requested) if its process is gone. Returns whether it was marked."""
    process = _dead_process(instance, run.run_id)
    current = instance.get_run_by_id(run.run_id)
    if process is None or current is None or current.is_finished:
        return False
    if current.status == dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(current, f"The run was cancelled and its {process} is gone.")
    else:
        instance.report_run_failed(current, f"The {process} ended before the run did: it was killed.")
    _file(instance, run.run_id).unlink(missing_ok=True)
    return True


class AliveExecutor(dg.Executor):
    """Wraps an executor to mark its run as alive."""

    def __init__(self, inner: dg.Executor) -> None:
        self.inner = inner

    @property
    def retries(self) -> Any:
        """Retry mode of the wrapped executor."""
        return self.inner.retries

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        """Execute a plan, with the run marked as alive."""
        with mark_alive(plan_context.instance, plan_context.run_id):
            yield from self.inner.execute(plan_context, execution_plan)


MULTIPROCESS = dg.ExecutorDefinition(
    name="multiprocess",
    config_schema=dg.multiprocess_executor.config_schema,  # type: ignore[arg-type]
    requirements=dg.multiprocess_executor.get_requirements,
    executor_creation_fn=lambda context: AliveExecutor(
        dg.multiprocess_executor.executor_creation_fn(context)  # type: ignore[misc]
    ),
)
"""Dagster's multiprocess executor; the parent process marks the run as alive."""


class Launcher(dg.DefaultRunLauncher):
    """Dagster's default launcher, with a health check for its monitoring daemon."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """True: the daemon checks each started run."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """FAILED if the run's process is gone, and the run is marked failed."""
        dead = fail_if_dead(self._instance, run)
        return CheckRunHealthResult(WorkerStatus.FAILED if dead else WorkerStatus.RUNNING)


def _dead_process(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """A description of a run's process if it is gone; None if it is alive or unknown."""
    file = _file(instance, run_id)
    try:
        handle = file.open(encoding="utf-8")
    except FileNotFoundError:
        beat = instance.run_storage.get_cursor_values({_key(run_id)}).get(_key(run_id))
        return "process on another machine" if beat and time.time() - float(beat) > SILENT_SECONDS else None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        # A run that ends normally removes its file before it releases the lock.
        return handle.read() if file.exists() else None


def _beat(instance: dg.DagsterInstance, run_id: str, ended: threading.Event) -> None:
    while True:
        with suppress(Exception):  # the storage may be unreachable for a while
            instance.run_storage.set_cursor_values({_key(run_id): str(time.time())})
        if ended.wait(BEAT_SECONDS):
            return


def _file(instance: dg.DagsterInstance, run_id: str) -> Path:
    return Path(instance.root_directory, "running", run_id)


def _key(run_id: str) -> str:
    return f"momentrank/heartbeat/{run_id}"
