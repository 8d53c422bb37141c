from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from features.errors import ProjectError
from features.project import load
from pipelines.timetable import cron, last_complete, partitions

PROJECTS = Path(__file__).parents[2] / "projects"


@pytest.mark.parametrize(
    ("start", "every", "line"),
    [
        ("2026-01-05T00:00", timedelta(days=1), "0 0 * * *"),
        ("2026-01-05T02:30", timedelta(days=1), "30 2 * * *"),
        ("2026-01-05T01:15", timedelta(hours=6), "15 1-23/6 * * *"),
        ("2026-01-05T16:29", timedelta(minutes=2), "1-59/2 * * * *"),
    ],
)
def test_slices_become_cron_lines(start: str, every: timedelta, line: str) -> None:
    assert cron(datetime.fromisoformat(start).replace(tzinfo=UTC), every) == line


@pytest.mark.parametrize(
    "every", [timedelta(minutes=7), timedelta(hours=5), timedelta(days=2), timedelta(seconds=90)]
)
def test_what_no_calendar_has_is_refused(every: timedelta) -> None:
    with pytest.raises(ProjectError, match="fits no calendar"):
        cron(datetime(2026, 1, 5, tzinfo=UTC), every)


@pytest.mark.parametrize("name", ["newsroom", "ranklens", "mind"])
def test_partitions_are_the_project_s_slices(name: str) -> None:
    project = load(PROJECTS / f"{name}.toml")
    slices = project.slices
    assert slices.end is not None
    assert partitions(project).get_partition_keys() == slices.keys(slices.start, slices.end)


def test_a_slice_is_complete_when_its_attribution_window_has_closed() -> None:
    project = load(PROJECTS / "newsroom.toml")
    midnight = datetime(2026, 1, 7, tzinfo=UTC)
    assert last_complete(project, midnight + timedelta(minutes=29)) == "2026-01-05"
    assert last_complete(project, midnight + timedelta(minutes=30)) == "2026-01-06"
    assert last_complete(project, datetime(2026, 1, 5, 12, tzinfo=UTC)) is None
    assert last_complete(project, datetime(2027, 1, 1, tzinfo=UTC)) == "2026-01-12"
