"""The Dagster instance: writes `dagster.yaml` and creates or upgrades the storage of runs, events and schedules."""

import contextlib
import io
from importlib import metadata
from pathlib import Path

from filelock import FileLock

from features.atomic import replacing
from features.errors import ProjectError

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

# Each process reads it from the environment, so that no file contains the password.
POSTGRES_YAML = f"""\
storage:
  postgres:
    postgres_url:
      env: {POSTGRES}
"""


def write(folder: Path, postgres: bool) -> None:
    """Write `dagster.yaml` unless it was edited by hand.

    Raises ProjectError if it is not text, or if an edited one stores runs elsewhere than the settings say.
    """
    file = folder / "dagster.yaml"
    expected = DAGSTER_YAML + POSTGRES_YAML * postgres
    current = _read(file) if file.exists() else ""
    if current not in ("", DAGSTER_YAML, DAGSTER_YAML + POSTGRES_YAML):
        _require_storage(file, current, postgres)
    elif current != expected:
        with replacing(file) as draft:
            draft.write_text(expected, encoding="utf-8")


def upgrade(folder: Path, storage: str) -> None:
    """Create or upgrade the instance's tables, as `dagster instance migrate` does.

    Runs once per Dagster version and `storage` (its address without password), under a lock: SQLite breaks if
    several processes create it at once.
    """
    stamp = folder / ".initialised"
    with FileLock(folder / ".lock"):
        done = f"{metadata.version('dagster')} {storage}".strip()
        if stamp.exists() and stamp.read_text(encoding="utf-8") == done:
            return
        from dagster import DagsterInstance

        # Dagster prints a line for each store, which users do not need.
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
        raise ProjectError(
            f"{file} is not valid UTF-8: fix it, or delete it and it is written again"
        ) from None


def _require_storage(file: Path, current: str, postgres: bool) -> None:
    if postgres and POSTGRES not in current:
        raise ProjectError(
            f"{POSTGRES} is set, but {file} was edited and does not use it: delete that file and it is written "
            f"again, or add to it\n{POSTGRES_YAML}"
        )
    if not postgres and POSTGRES in current:
        raise ProjectError(
            f"{file} stores Dagster's runs in {POSTGRES}, which is not set: set it to "
            "postgresql://USER:PASSWORD@HOST/DATABASE, or delete that file"
        )
