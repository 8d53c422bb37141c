"""Progress of a run: a bar and one line per step in the terminal, details in a log file."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any, Self

from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from pipelines.terminal import Terminal, direct, styled

_WATCH_EVERY = 5.0  # seconds between two lines about one fit
_REPORT_AFTER = 60.0  # seconds after which a run without a terminal reports its progress once
_MIN_LEFT = 10.0  # seconds: no report if less is left
_MIN_DONE = 0.1  # share of a step's slices: no estimate before, as a step's set-up would count as its pace


class Progress:
    """Receives progress and shows nothing: the default under Dagster's own executors."""

    def tell(self, line: str) -> None:
        """Show a line to the user."""

    def detail(self, line: str) -> None:
        """Show a line to a user who watches a terminal."""

    def wrote(self, table: str, slice: str, rows: int) -> None:
        """A slice of a table was written."""

    def made(self, slice: str, what: str) -> None:
        """The current step's result for a slice, in a few words. The step's line shows the last one."""

    def watch(self, what: str, status: Mapping[str, Any]) -> None:
        """Progress of a fit: `step`, `steps`, `loss`, `impressions_per_second`. Any thread may call it."""

    def step(self, name: str) -> AbstractContextManager[None]:
        """Context manager around a step of a run."""
        return nullcontext()

    def track(self, slices: Sequence[str]) -> Iterator[str]:
        """Yield the slices; each counts as done when the next one is requested."""
        return iter(slices)


class Lines(Progress):
    """Prints each line with the seconds since the start."""

    def __init__(self, out: Terminal) -> None:
        self._out = out
        self._started = self._watched = monotonic()

    def tell(self, line: str) -> None:
        """See `Progress.tell`."""
        self._out.print(styled((f"{self._seconds():7.1f} s", "dim"), (f"  {line}", "")), soft_wrap=True)

    def detail(self, line: str) -> None:
        """See `Progress.detail`."""
        if self._out.is_terminal:
            self.tell(line)

    def watch(self, what: str, status: Mapping[str, Any]) -> None:
        """See `Progress.watch`; a line every few seconds."""
        if monotonic() - self._watched > _WATCH_EVERY:
            self._watched = monotonic()
            self.detail(f"{what}: step {status.get('step')} of {status.get('steps')}, {_pace(status)}")

    def _seconds(self) -> float:
        return monotonic() - self._started


class RunProgress(Lines):
    """Shows a bar for the current step (in a terminal) and a line for each finished one; logs the details.

    A context manager, which shows the bar while inside. Steps run one after the other, as in Dagster's in-process
    executor.
    """

    def __init__(self, out: Terminal, logs: Path, steps: int) -> None:
        """`logs`: folder of the log file; `steps`: number of steps in the run."""
        super().__init__(direct(out))
        self.log = logs / f"run-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._writing = Lock()
        self._steps, self._ended, self._reported = steps, 0, False
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[state]}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
            _Time(),
            console=self._out,
            transient=True,
            expand=True,
            refresh_per_second=4,
            disable=not self._out.is_terminal,
        )
        self._bar = self._bars.add_task("reading", state="", left=0.0)
        self._begin("")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._bars.stop()

    def tell(self, line: str) -> None:
        """See `Progress.tell`; also logged."""
        self.detail(line)
        self._out.print(line, soft_wrap=True)

    def detail(self, line: str) -> None:
        """Log a line."""
        with self._writing, self.log.open("a", encoding="utf-8") as file:
            file.write(f"{self._seconds():7.1f} s  {line}\n")

    def wrote(self, table: str, slice: str, rows: int) -> None:
        """See `Progress.wrote`."""
        self._rows += rows
        self.detail(f"{table} {slice}: {rows:,} rows")

    def made(self, slice: str, what: str) -> None:
        """See `Progress.made`."""
        self._made = f"{slice}: {what}"
        self.detail(f"{self._name} {self._made}")

    def watch(self, what: str, status: Mapping[str, Any]) -> None:
        """See `Progress.watch`."""
        super().watch(what, status)
        if status.get("steps"):
            self._show(self._done + status["step"] / status["steps"], _pace(status))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """See `Progress.step`."""
        self._begin(name)
        self.detail(f"{name} started")
        self._bars.reset(self._bar, description=self._label(), state="", left=0.0)
        try:
            yield
        except BaseException as error:
            self.detail(f"{name} failed: {error}")
            # RetryRequested has it. Dagster is not imported here because cluster workers import this file.
            wait = getattr(error, "seconds_to_wait", None)
            retry = "" if wait is None else f", {error.__cause__}; retrying in {wait:.0f} s"
            self._line(f"failed{retry}", "bold red")
            raise
        else:
            self.detail(f"{name} finished after {monotonic() - self._since:.1f} s")
            self._line(self._made or (f"{self._rows:,} rows" if self._rows else ""))
            self._ended += 1

    def track(self, slices: Sequence[str]) -> Iterator[str]:
        """See `Progress.track`."""
        self._slices, self._tracked = len(slices), monotonic()
        for number, slice in enumerate(slices):
            self._done = number
            self._show(number, slice)
            yield slice
        self._show(len(slices), "")

    def _begin(self, name: str) -> None:
        self._name, self._since = name, monotonic()
        self._rows, self._slices, self._done, self._made = 0, 0, 0, ""
        self._tracked = self._since

    def _show(self, done: float, state: str) -> None:
        slices = self._slices
        left = (monotonic() - self._tracked) * (slices / done - 1) if done > _MIN_DONE * slices else 0.0
        count = f"{min(int(done) + 1, slices)}/{slices} "
        self._bars.update(self._bar, completed=done, total=slices, state=count + state, left=left)
        if self._bars.disable and not self._reported and self._seconds() > _REPORT_AFTER and left > _MIN_LEFT:
            self._reported = True
            self.tell(
                f"after {self._seconds():.0f} s: {self._name} (step {self._ended + 1} of {self._steps}) has finished "
                f"{done:.1f} of {slices} slices, about {left:.0f} s left"
            )

    def _line(self, what: str, style: str = "") -> None:
        """Print the line of a finished step. Its checks run next."""
        seconds = f"{monotonic() - self._since:6.1f} s"
        self._bars.reset(self._bar, total=None, description=f"{'':5} {'checks':15}", state="", left=0.0)
        line = styled((self._label(), "bold"), (seconds, "dim"), (f"  {what}", style))
        self._out.print(line, soft_wrap=True)

    def _label(self) -> str:
        return f"{self._ended + 1:>2}/{self._steps} {self._name:15}"


class _Time(ProgressColumn):
    """Elapsed and estimated remaining seconds of a step."""

    def render(self, task: Task) -> Text:
        left = f", {task.fields['left']:.0f} s left" if task.fields["left"] else ""
        return Text(f"{task.elapsed or 0.0:.0f} s{left}", "dim")


def _pace(status: Mapping[str, Any]) -> str:
    return f"loss {status.get('loss', 0.0):.3f}, {status.get('impressions_per_second', 0.0):.0f} lists/s"
