"""The Dagster instance: its `dagster.yaml`, where it keeps runs, events and schedules, and its first opening."""

import contextlib
import io
import os
from importlib import metadata
from pathlib import Path

from features.errors import ProjectError
from pipelines.file_lock import file_lock

POSTGRES = "MOMENTRANK_DAGSTER_POSTGRES"

DAGSTER_YAML = """\
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  runs:
    max_concurrent_runs: 2
  # A run waits in the queue until nobody holds its pools: `trainer` fits models, `writer` replaces tables.
  pools:
    default_limit: 1
    granularity: run
# Tells the monitoring below which runs were killed.
run_launcher:
  module: pipelines.liveness
  class: Launcher
run_monitoring:
  enabled: true
  start_timeout_seconds: 180
  poll_interval_seconds: 30
run_retries:
  enabled: true
  max_retries: 0
"""

# Read from the environment by each process that opens the instance: a password does not belong in a file.
POSTGRES_YAML = f"""\
storage:
  postgres:
    postgres_url:
      env: {POSTGRES}
"""


def write(folder: Path, postgres: bool) -> None:
    """Write `dagster.yaml` unless there is one that somebody edited.

    Raises ProjectError where the edited one is no text, or keeps its runs elsewhere than the settings say.
    """
    file = folder / "dagster.yaml"
    wanted = DAGSTER_YAML + POSTGRES_YAML * postgres
    found = _read(file) if file.exists() else ""
    if found not in ("", DAGSTER_YAML, DAGSTER_YAML + POSTGRES_YAML):
        _refuse_other_storage(file, found, postgres)
    elif found != wanted:
        # Renamed into place, so that a process starting beside this one never reads half a file.
        draft = file.with_name(f"dagster.yaml.{os.getpid()}")
        draft.write_text(wanted, encoding="utf-8")
        draft.replace(file)


def upgrade(folder: Path, storage: str) -> None:
    """Create or upgrade the instance's tables, as `dagster instance migrate` does.

    Once per Dagster version and `storage` (its address, without a password), and behind a lock: SQLite breaks
    when several processes open it first.
    """
    stamp = folder / ".initialised"
    with file_lock(folder / ".lock"):
        done = f"{metadata.version('dagster')} {storage}".strip()
        if stamp.exists() and stamp.read_text(encoding="utf-8") == done:
            return
        from dagster import DagsterInstance

        # Dagster prints a line for each store; nothing that a person running a project asked for.
        with (
            contextlib.redirect_stdout(io.StringIO()),
            DagsterInstance.from_config(str(folder)) as instance,
        ):
            instance.upgrade()
        stamp.write_text(done, encoding="utf-8")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ProjectError(f"{file} is damaged: mend it, or remove it to have it written anew") from None


def _refuse_other_storage(file: Path, found: str, postgres: bool) -> None:
    if postgres and POSTGRES not in found:
        raise ProjectError(
            f"{POSTGRES} is set, but {file}, which was edited, does not name it: remove that file to have it "
            f"written anew, or add to it\n{POSTGRES_YAML}"
        )
    if not postgres and POSTGRES in found:
        raise ProjectError(
            f"{file} keeps Dagster's runs where {POSTGRES} says, and that is not set: set it to "
            "postgresql://USER:PASSWORD@HOST/DATABASE, or remove that file"
        )
