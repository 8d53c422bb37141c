"""The service's time in microseconds: the machine's clock, or one that continues a project whose slices have ended."""

import time
from collections.abc import Callable

from features.config.project import Project
from features.config.slices import microseconds

Clock = Callable[[], int]


def clock_from(project: Project, known: int) -> Clock:
    """The machine's clock; after `slices.end`, a clock that starts at the newest known instant."""
    end = project.slices.end
    if end is None or microseconds(end) > _now():
        return _now
    since = time.monotonic_ns()
    return lambda: known + 1 + (time.monotonic_ns() - since) // 1000


def _now() -> int:
    return time.time_ns() // 1000
