"""Whether the process of a run still lives: a run whose process was killed stays STARTED in Dagster.

While a run works, its process holds a lock on the file `DAGSTER_HOME/running/RUN_ID`; the system releases the lock
however the process ends. With a process per step it is their parent that holds it: a step may be killed, and the run
goes on. A machine that does not see that file, because its home is another one, reads the heartbeat
that the process leaves in Dagster's storage. Whoever asks what is under way calls `fail_dead` first; for runs behind
the web page Dagster's monitoring daemon asks `Launcher`.
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
"""A run of another machine counts as dead after this long without a heartbeat."""

_BEGUN = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


@contextmanager
def holding(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Show a run to be alive while this process is inside; nothing changes where another process shows it already."""
    file = _file(instance, run_id)
    if file.exists() and _gone(instance, run_id) is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    ended = threading.Event()
    with draft.open("w", encoding="utf-8") as handle:
        handle.write(f"process {os.getpid()} on {socket.gethostname()}")
        handle.flush()
        fcntl.flock(handle, fcntl.LOCK_EX)
        draft.replace(file)  # seen only once it is locked
        threading.Thread(target=_beat, args=(instance, run_id, ended), daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            file.unlink(missing_ok=True)


def fail_dead(instance: dg.DagsterInstance) -> list[str]:
    """Mark every run whose process is gone as failed, so that nothing waits for it; returns their ids."""
    begun = instance.get_runs(dg.RunsFilter(statuses=_BEGUN))
    return [run.run_id for run in begun if fail_if_dead(instance, run)]


def fail_if_dead(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Mark a run as failed (as cancelled, where that was asked for) if its process is gone; whether it was."""
    process = _gone(instance, run.run_id)
    found = instance.get_run_by_id(run.run_id)
    if process is None or found is None or found.is_finished:
        return False
    if found.status == dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(found, f"The run was cancelled and its {process} is gone.")
    else:
        instance.report_run_failed(found, f"The {process} ended before the run did: it was killed.")
    _file(instance, run.run_id).unlink(missing_ok=True)
    return True


class Held(dg.Executor):
    """An executor whose process shows the run to be alive."""

    def __init__(self, inner: dg.Executor) -> None:
        self.inner = inner

    @property
    def retries(self) -> Any:
        """Those of the executor inside."""
        return self.inner.retries

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        """Execute a plan."""
        with holding(plan_context.instance, plan_context.run_id):
            yield from self.inner.execute(plan_context, execution_plan)


def _multiprocess(context: dg.InitExecutorContext) -> dg.Executor:
    inner: dg.Executor = dg.multiprocess_executor.executor_creation_fn(context)  # type: ignore[misc]
    return Held(inner)


MULTIPROCESS = dg.ExecutorDefinition(
    name="multiprocess",
    config_schema=dg.multiprocess_executor.config_schema,  # type: ignore[arg-type]
    requirements=dg.multiprocess_executor.get_requirements,
    executor_creation_fn=_multiprocess,
)
"""Dagster's own executor with a process per step, whose parent process shows the run to be alive."""


class Launcher(dg.DefaultRunLauncher):
    """Dagster's own launcher, which also answers its monitoring daemon whether a run's process lives."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes: the daemon asks about each started run."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Failed, and marked so, where the run's process is gone."""
        gone = fail_if_dead(self._instance, run)
        return CheckRunHealthResult(WorkerStatus.FAILED if gone else WorkerStatus.RUNNING)


def _gone(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """The process of a run, in words, if it is gone; None if it lives or nothing is known of it."""
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
        # A run that ended in order removes its file before the lock goes.
        return handle.read() if file.exists() else None


def _beat(instance: dg.DagsterInstance, run_id: str, ended: threading.Event) -> None:
    while True:
        with suppress(Exception):  # the storage may be away for a while: the next beat may reach it
            instance.run_storage.set_cursor_values({_key(run_id): str(time.time())})
        if ended.wait(BEAT_SECONDS):
            return


def _file(instance: dg.DagsterInstance, run_id: str) -> Path:
    return Path(instance.root_directory, "running", run_id)


def _key(run_id: str) -> str:
    return f"momentrank/heartbeat/{run_id}"
