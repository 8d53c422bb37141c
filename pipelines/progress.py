"""What a person sees while work is done: a bar and then one line for each step; the details go to a log file."""

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
_LONG = 60.0  # seconds after which a reader without bars is told how far a run is
_SHORT = 10.0  # seconds left that are not worth saying


class Progress:
    """Receives how far work is, and says nothing: the default, under Dagster's own executors."""

    def tell(self, line: str) -> None:
        """Say a line that a person must see."""

    def wrote(self, table: str, slice: str, rows: int) -> None:
        """A slice of a table was written."""

    def made(self, slice: str, what: str) -> None:
        """What the present step made of a slice, in a few words; the last one stays on the step's line."""

    def watch(self, what: str, facts: Mapping[str, Any]) -> None:
        """Progress inside a fit: `step`, `steps`, `loss`, `impressions_per_second`. Any thread may call it."""

    def step(self, name: str) -> AbstractContextManager[None]:
        """A step of a run, from its beginning to its end or failure."""
        return nullcontext()

    def track(self, slices: Sequence[str]) -> Iterator[str]:
        """The slices one by one; each is done when the next is asked for."""
        return iter(slices)


class Lines(Progress):
    """Prints each line with the seconds since the beginning."""

    def __init__(self, out: Terminal) -> None:
        self._out = out
        self._began = self._watched = monotonic()

    def tell(self, line: str) -> None:
        """See `Progress.tell`."""
        self._out.print(styled((f"{self._seconds():7.1f} s", "dim"), (f"  {line}", "")), soft_wrap=True)

    def watch(self, what: str, facts: Mapping[str, Any]) -> None:
        """See `Progress.watch`; a line every few seconds."""
        if monotonic() - self._watched > _WATCH_EVERY:
            self._watched = monotonic()
            self._detail(f"{what}: step {facts.get('step')} of {facts.get('steps')}, {_pace(facts)}")

    def _detail(self, line: str) -> None:
        self.tell(line)

    def _seconds(self) -> float:
        return monotonic() - self._began


class RunProgress(Lines):
    """Shows one bar, in a terminal, for the step at work and one line for each that ended; logs the details.

    A context manager: the bar is there inside it. Steps follow each other, as in Dagster's in-process executor.
    """

    def __init__(self, out: Terminal, logs: Path, steps: int) -> None:
        """`logs`: folder of the log file; `steps`: how many steps the run has."""
        super().__init__(direct(out))
        self.log = logs / f"run-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._writing = Lock()
        self._steps, self._ended, self._said = steps, 0, False
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
        """See `Progress.tell`; the log has it too."""
        self._detail(line)
        self._out.print(line, soft_wrap=True)

    def wrote(self, table: str, slice: str, rows: int) -> None:
        """See `Progress.wrote`."""
        self._rows += rows
        self._detail(f"{table} {slice}: {rows:,} rows")

    def made(self, slice: str, what: str) -> None:
        """See `Progress.made`."""
        self._made = f"{slice}: {what}"
        self._detail(f"{self._name} {self._made}")

    def watch(self, what: str, facts: Mapping[str, Any]) -> None:
        """See `Progress.watch`."""
        super().watch(what, facts)
        if facts.get("steps"):
            self._show(self._done + facts["step"] / facts["steps"], _pace(facts))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """See `Progress.step`."""
        self._begin(name)
        self._detail(f"{name} begins")
        self._bars.reset(self._bar, description=self._label(), state="", left=0.0)
        try:
            yield
        except BaseException as error:
            self._detail(f"{name} failed: {error}")
            # Of Dagster's RetryRequested, which is not imported here: cluster workers import this file.
            wait = getattr(error, "seconds_to_wait", None)
            again = "" if wait is None else f", {error.__cause__}; trying again in {wait:.0f} s"
            self._line(f"failed{again}", "bold red")
            raise
        else:
            self._detail(f"{name} ends after {monotonic() - self._since:.1f} s")
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
        left = (monotonic() - self._tracked) * (slices / done - 1) if done else 0.0
        count = f"{min(int(done) + 1, slices)}/{slices} "
        self._bars.update(self._bar, completed=done, total=slices, state=count + state, left=left)
        if self._bars.disable and not self._said and self._seconds() > _LONG and left > _SHORT:
            self._said = True
            self.tell(
                f"after {self._seconds():.0f} s: {self._name}, step {self._ended + 1} of {self._steps}, has done "
                f"{done:.1f} of {slices} slices and needs about {left:.0f} s more"
            )

    def _line(self, what: str, style: str = "") -> None:
        """The line of a step that ended; what follows is the checks of what it made."""
        seconds = f"{monotonic() - self._since:6.1f} s"
        self._bars.reset(self._bar, total=None, description=f"{'':5} {'checks':15}", state="", left=0.0)
        line = styled((self._label(), "bold"), (seconds, "dim"), (f"  {what}", style))
        self._out.print(line, soft_wrap=True)

    def _label(self) -> str:
        return f"{self._ended + 1:>2}/{self._steps} {self._name:15}"

    def _detail(self, line: str) -> None:
        with self._writing, self.log.open("a", encoding="utf-8") as file:
            file.write(f"{self._seconds():7.1f} s  {line}\n")


class _Time(ProgressColumn):
    """Seconds of a step so far, and about how many are left."""

    def render(self, task: Task) -> Text:
        left = f", {task.fields['left']:.0f} s left" if task.fields["left"] else ""
        return Text(f"{task.elapsed or 0.0:.0f} s{left}", "dim")


def _pace(facts: Mapping[str, Any]) -> str:
    return f"loss {facts.get('loss', 0.0):.3f}, {facts.get('impressions_per_second', 0.0):.0f} lists/s"
