"""Progress of a run: one line per step, a bar only in a terminal, details in the log."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import dagster as dg
import pytest

from pipelines import progress as progress_module
from pipelines import retries
from pipelines.progress import Lines, RunProgress
from pipelines.terminal import Terminal

SLICES = ["2026-01-05", "2026-01-06", "2026-01-07"]
FIT = {"step": 5, "steps": 10, "loss": 2.5, "impressions_per_second": 74.2}
Opened = Callable[..., tuple[RunProgress, StringIO]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A fake clock for `progress`, in seconds."""
    now = [0.0]
    monkeypatch.setattr(progress_module, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def opened(tmp_path: Path, clock: list[float]) -> Opened:
    def make(*, terminal: bool = False, steps: int = 2) -> tuple[RunProgress, StringIO]:
        page = StringIO()
        out = Terminal(file=page, force_terminal=terminal, width=80, _environ={})
        return RunProgress(out, tmp_path / "logs", steps), page

    return make


def test_without_a_terminal_each_step_has_a_line_and_details_are_logged(
    opened: Opened, clock: list[float]
) -> None:
    progress, page = opened()
    with progress:
        progress.tell("warning: nothing happened in May")
        with progress.step("ranking_dataset"):
            for slice in progress.track(SLICES):
                progress.wrote("ranking_dataset", slice, 1000)
            clock[0] += 3
        with progress.step("ranker"):
            for number, slice in enumerate(progress.track(SLICES)):
                progress.watch(f"ranker {slice}", FIT)
                clock[0] += 10
                progress.made(slice, f"version {number}")

    assert page.getvalue().splitlines() == [
        "warning: nothing happened in May",
        " 1/2 ranking_dataset   3.0 s  3,000 rows",
        " 2/2 ranker           30.0 s  2026-01-07: version 2",
    ]
    log = progress.log.read_text(encoding="utf-8")
    for line in (
        "nothing happened",
        "2026-01-06: 1,000 rows",
        "2026-01-05: version 0",
        "step 5 of 10, loss 2.5",
    ):
        assert line in log
    assert progress.log.parent.name == "logs"


def test_the_bar_advances_within_a_slice(opened: Opened, clock: list[float]) -> None:
    progress, page = opened(terminal=True)
    with progress, progress.step("interest_model"):
        slices = progress.track(SLICES)
        next(slices)
        next(slices)
        clock[0] += 30
        progress.watch("interest_model", FIT)
        (bar,) = progress._bars.tasks
        assert (bar.completed, bar.total) == (1.5, 3)
        progress._bars.refresh()

    assert "2/3 loss 2.500, 74 lists/s" in page.getvalue()


def test_without_a_terminal_a_long_run_reports_once(opened: Opened, clock: list[float]) -> None:
    progress, page = opened()
    with progress.step("interest_model"):
        for _ in progress.track(SLICES):
            clock[0] += 40

    reports = [line for line in page.getvalue().splitlines() if "after" in line]
    assert reports == [
        "after 80 s: interest_model (step 1 of 2) has finished 2.0 of 3 slices, about 40 s left"
    ]


def test_the_first_seconds_of_a_fit_give_no_estimate(opened: Opened, clock: list[float]) -> None:
    progress, page = opened()
    with progress.step("interest_model"):
        next(progress.track(SLICES))
        clock[0] += 70
        progress.watch("interest_model", {**FIT, "step": 1})
        assert "left" not in page.getvalue()
        clock[0] += 20
        progress.watch("interest_model", FIT)

    assert "has finished 0.5 of 3 slices, about 450 s left" in page.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_only_a_terminal_shows_details_of_other_commands(clock: list[float], terminal: bool) -> None:
    page = StringIO()
    lines = Lines(Terminal(file=page, force_terminal=terminal, width=80, _environ={}))
    clock[0] += 10

    lines.detail("features: 1.0 s so far")
    lines.watch("interest_model", FIT)
    lines.tell("all 1.0 s")

    assert page.getvalue().count("\n") == (3 if terminal else 1)


def test_a_retried_step_counts_once(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "pause", lambda _: 0.0)
    progress, page = opened()

    @dg.asset
    def table(context: dg.AssetExecutionContext) -> None:
        with progress.step("table"), retries.with_retries(context.retry_number):
            for slice in progress.track(SLICES):
                progress.wrote("table", slice, 1)
                if context.retry_number == 0:
                    raise ConnectionResetError("the server is away")

    assert dg.materialize([table]).success
    assert [" ".join(line.split()) for line in page.getvalue().splitlines()] == [
        "1/2 table 0.0 s failed, the server is away; retrying in 0 s",
        "1/2 table 0.0 s 3 rows",
    ]
