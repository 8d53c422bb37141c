"""A small newsroom in its own home, run as a separate process; and the differences between two homes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from polars.testing import assert_frame_equal

from pipelines.deployment import Deployment
from pipelines.event_log import ROOT
from pipelines.settings.settings import load

PROJECT = Path(__file__).parents[2] / "projects" / "newsroom.toml"
SMALL = (
    "source.newsroom.days=3",
    "source.newsroom.users=30",
    "source.newsroom.articles_a_day=12",
    "source.newsroom.impressions_a_day=80",
    "source.newsroom.list_size=8",
    "slices.end=2026-01-08T00:00:00Z",
    "interest.epochs=1",
    "interest.max_tokens=16",
    "ranker.num_iterations=20",
    "ranker.early_stopping_round=5",
    "promotion.resamples=200",
    "lists.users=5",
    "lists.pool=20",
)
SET_BACK = "2026-01-06T12:00:00+00:00"
"""The time when the clock is set back: half of the logs lie after it."""
BY_VERSION = (
    "ranker_version",
    "challenger",
    "champion_before",
    "promoted",
    "difference",
    "guard_slack",
    "low",
    "high",
    "reasons",
)
"""Columns that depend on version numbers: a rerun registers new versions and meets another champion."""
RESUMED = 1e-4
"""Tolerance for a fit that was killed and resumed from its checkpoint."""
_CLOCK = """
from datetime import datetime
from pipelines import deployment, event_log
instant = datetime.fromisoformat({clock!r})
clock = type("Clock", (datetime,), {{"now": classmethod(lambda kind, zone=None: instant)}})
deployment.datetime = event_log.datetime = clock
"""
_LARGEST_FILE = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead of ending the process
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
"""
_BEGIN = "from pipelines.cli.commands import main; main()"


@dataclass(frozen=True)
class Home:
    """The home of one deployment."""

    folder: Path

    @cached_property
    def deployment(self) -> Deployment:
        """This home's deployment, opened in this process."""
        os.environ |= self._environment | {
            "MOMENTRANK_PROJECT": str(PROJECT),
            "MOMENTRANK_SET": "\n".join(SMALL),
        }
        settings = load()
        return Deployment(settings.open_project(), settings)

    @property
    def _environment(self) -> dict[str, str]:
        return {"MOMENTRANK_HOME": str(self.folder), "COLUMNS": "200"}

    def start(self, *, clock: str | None = None, largest_file: int | None = None) -> subprocess.Popen[str]:
        """Start `momentrank run` with its output in a pipe.

        `clock`: the current time, for the run. `largest_file`: limit on the size of a file, in bytes.
        """
        script = _BEGIN
        if clock:
            script = _CLOCK.format(clock=clock) + script
        if largest_file:
            script = _LARGEST_FILE.format(size=largest_file) + script
        return subprocess.Popen(
            [sys.executable, "-c", script, "run", str(PROJECT), *(f"--set={one}" for one in SMALL)],
            env=os.environ | self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self) -> tuple[int, str]:
        """Run to the end; return exit status and last line of output."""
        running = self.start()
        output = [*lines(running)]
        return running.wait(), output[-1]

    def unusable(self) -> Iterator[str]:
        """Yield registered versions that are incomplete. Raises if one cannot be loaded."""
        registry = self.deployment.registry
        for version in registry.versions("ranker"):
            if not registry.load_ranker(version["version"]).columns or not version["tags"].get("dagster_run"):
                yield f"ranker version {version['version']} is half-registered"
        for version in registry.versions("interest"):
            folder = registry.interest_folder(version["version"])
            if not [*folder.glob("*.safetensors")] or not version["tags"].get("dagster_run"):
                yield f"interest version {version['version']} is half-registered"


def lines(running: subprocess.Popen[str]) -> Iterator[str]:
    """Yield the non-empty lines of a run's output as they come."""
    assert running.stdout is not None
    return (line.strip() for line in running.stdout if line.strip())


def differences(home: Home, undisturbed: Home) -> list[str]:
    """Return how the tables of `home` differ from the undisturbed ones, and its incomplete versions."""
    # The event log holds write times; its other contents are in the other tables too.
    ours, theirs = (
        {name for name in one.deployment.lake.tables() if not name.startswith(ROOT)}
        for one in (home, undisturbed)
    )
    messages = [f"table {name} is in one home only" for name in sorted(ours ^ theirs)]
    for name in sorted(ours & theirs):
        here, there = (
            one.deployment.lake.read(name).drop(BY_VERSION, strict=False) for one in (home, undisturbed)
        )
        try:
            assert_frame_equal(here, there, rel_tol=RESUMED, abs_tol=RESUMED)
        except AssertionError as difference:
            messages.append(f"{name}: {' '.join(str(difference).split())[:150]}")
    return [*messages, *home.unusable()]
