"""Checks before a run: errors and warnings."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from features.config.project import Project
from features.errors import ProjectError
from models.correctable import CORRECTABLE
from pipelines.deployment import Deployment
from pipelines.preflight import gap, last_with_events, partitions, preflight

START = datetime(2026, 1, 5, tzinfo=UTC)


def project(every: str = "1d", end: datetime | None = None) -> Project:
    slices = {"start": START, "every": every, "end": end}
    return Project.model_validate({"name": "x", "source": {"format": "newsroom"}, "slices": slices})


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ('features.select=["item_click"]', "no feature is called 'item_click'; the nearest is 'item_clicks_"),
        ("features.select=[]", "features.select has only text features"),
        ('features.select=["*", "!*"]', "features.select has only text features"),
        ('features.select=["text_*"]', "select at least one feature that does not start with text_"),
        ('interest.encoder="no-such-encoder"', "encoder 'no-such-encoder' is neither packaged"),
        ('interest.encoder="no such/encoder?"', "encoder 'no such/encoder?' is neither packaged"),
        ('interest.encoder="tests"', "encoder 'tests' is neither packaged"),
        ('interest.device="cuda"', "torch finds no CUDA device here"),
    ],
)
def test_impossible_settings_are_errors(
    override: str,
    expected: str,
    small_newsroom: Callable[..., Deployment],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(CORRECTABLE) as caught:
        preflight(small_newsroom(tmp_path, override).project, True, print)
    assert expected in str(caught.value)


def test_a_cluster_may_have_the_device_that_this_machine_lacks(
    small_newsroom: Callable[..., Deployment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    preflight(small_newsroom(tmp_path, 'interest.device="cuda"').project, False, print)


@pytest.mark.parametrize(
    ("every", "end", "expected"),
    [
        ("1m", START + timedelta(days=365), "525,600 slices in total"),
        ("5m", None, "105,120 slices in the first year"),
        ("5m", START + timedelta(days=1), None),
        ("1h", None, None),
    ],
)
def test_too_many_partitions_are_a_warning(every: str, end: datetime | None, expected: str | None) -> None:
    lines: list[str] = []
    preflight(project(every, end), True, lines.append)
    assert [expected in line for line in lines] == ([True] if expected else [])


def test_partitions_of_an_old_project_without_an_end_go_until_now() -> None:
    assert partitions(project("1h").slices, START + timedelta(days=3650)) == 87_600


def test_a_run_without_an_end_goes_to_the_last_slice_with_events() -> None:
    assert last_with_events(["2026-01-06", "2026-01-09", "2026-01-05"], START) == "2026-01-09"
    with pytest.raises(ProjectError, match="slices start at 2026-01-05"):
        last_with_events([], START)


JANUARY = [f"2026-01-{day:02}" for day in range(5, 32)]


@pytest.mark.parametrize(
    ("with_events", "expected"),
    [
        (JANUARY, None),
        (JANUARY[:2] + JANUARY[9:], None),
        (
            [*JANUARY, "2026-06-19"],
            "138 slices in a row, 2026-02-01 to 2026-06-18, have no events, and only 28",
        ),
        (
            ["2026-05-05", "2026-05-06"],
            "120 slices in a row, 2026-01-05 to 2026-05-04, have no events, and only 2",
        ),
        ([], None),
    ],
)
def test_more_empty_slices_than_slices_with_events_are_a_warning(
    with_events: list[str], expected: str | None
) -> None:
    warning = gap(with_events, project().slices)
    assert (expected in warning) if expected and warning else warning is expected


def test_only_gaps_among_the_slices_of_a_run_count() -> None:
    with_events = [*JANUARY, "2026-06-19"]
    assert gap(with_events, project().slices, "2026-01-05", "2026-01-31") is None
    assert "2026-02-01 to 2026-03-31" in str(gap(with_events, project().slices, "2026-01-05", "2026-03-31"))
