from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from features.config.project import Project, load
from features.config.slices import EVERY
from features.errors import ProjectError
from pipelines.triggers import partitions as partitions_module
from pipelines.triggers.partitions import (
    chosen,
    complete,
    cron,
    due,
    partition_range,
    partitions,
    range_tags,
    schedule,
    under_way,
)

PROJECTS = Path(__file__).parents[3] / "projects"


@pytest.mark.parametrize(
    ("start", "every", "schedule"),
    [
        ("2026-01-05T00:00", timedelta(days=1), "0 0 * * *"),
        ("2026-01-05T02:30", timedelta(days=1), "30 2 * * *"),
        ("2026-01-05T01:15", timedelta(hours=6), "15 1-23/6 * * *"),
        ("2026-01-05T16:29", timedelta(minutes=2), "1-59/2 * * * *"),
        ("2026-01-07T03:30", timedelta(days=7), "30 3 * * 3"),
    ],
)
def test_slices_become_a_cron_schedule(start: str, every: timedelta, schedule: str) -> None:
    assert cron(datetime.fromisoformat(start).replace(tzinfo=UTC), every) == schedule


@pytest.mark.parametrize("every", EVERY, ids=str)
@pytest.mark.parametrize("start", ["2026-01-05T00:00Z", "2026-01-07T16:29Z"])
def test_partitions_of_every_length_are_the_slices(start: str, every: timedelta) -> None:
    begin = datetime.fromisoformat(start)
    slices = {"start": begin, "every": every, "end": begin + 9 * every}
    project = Project.model_validate({"name": "x", "source": {"format": "newsroom"}, "slices": slices})
    assert partitions(project.slices).get_partition_keys() == project.slices.keys(begin, begin + 9 * every)


@pytest.mark.parametrize("name", ["newsroom", "ranklens", "mind"])
def test_partitions_are_the_project_s_slices(name: str) -> None:
    project = load(PROJECTS / f"{name}.toml")
    slices = project.slices
    assert slices.end is not None
    assert partitions(project.slices).get_partition_keys() == slices.keys(slices.start, slices.end)


def test_a_slice_is_complete_when_its_attribution_window_has_closed() -> None:
    project = load(PROJECTS / "newsroom.toml")
    midnight = datetime(2026, 1, 7, tzinfo=UTC)
    attribution = project.labels.attribution
    assert complete(project.slices, attribution, midnight + timedelta(minutes=29)) == ["2026-01-05"]
    assert complete(project.slices, attribution, midnight + timedelta(minutes=30)) == DAYS[:2]


NOW = datetime(2026, 1, 8, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (None, None, ("2026-01-05", "2026-01-07")),
        ("2026-01-06", None, ("2026-01-06", "2026-01-07")),
        (None, "2026-01-05", ("2026-01-05", "2026-01-05")),
    ],
)
def test_a_run_covers_the_slices_named_or_all_that_are_complete(
    since: str | None, until: str | None, expected: tuple[str, str]
) -> None:
    project = load(PROJECTS / "newsroom.toml")
    assert chosen(project.slices, project.labels.attribution, since, until, NOW) == expected


@pytest.mark.parametrize(
    ("since", "until", "message"),
    [
        (None, "2026-01-08", "--until 2026-01-08 has not ended: .* name 2026-01-07"),
        (None, "2099-01-08", "--until 2099-01-08 is after slices.end, .* name 2026-01-12"),
        ("2099-01-08", None, "--from 2099-01-08 is after slices.end"),
        ("2026-01-04", None, "does not exist"),
        (None, "2026-01-07-00:30", "is not written as"),
        ("2026-01-07", "2026-01-06", "--from 2026-01-07 is after --until 2026-01-06"),
    ],
)
def test_invalid_ranges_are_rejected(since: str | None, until: str | None, message: str) -> None:
    project = load(PROJECTS / "newsroom.toml")
    with pytest.raises(ProjectError, match=message):
        chosen(project.slices, project.labels.attribution, since, until, NOW)


def test_before_the_first_slice_is_complete_nothing_can_run() -> None:
    project = load(PROJECTS / "newsroom.toml")
    with pytest.raises(ProjectError, match="the first will be at 2026-01-06T00:30:00"):
        chosen(project.slices, project.labels.attribution, None, None, datetime(2026, 1, 6, tzinfo=UTC))


def test_without_an_end_a_future_slice_is_rejected() -> None:
    project = Project.model_validate(
        {"name": "x", "source": {"format": "newsroom"}, "slices": {"start": "2026-01-05T00:00Z"}}
    )
    with pytest.raises(ProjectError, match="--until 2099-01-08 has not ended"):
        chosen(project.slices, project.labels.attribution, None, "2099-01-08", NOW)


DAYS = [f"2026-01-{day:02}" for day in range(5, 13)]


def test_complete_slices_are_in_order() -> None:
    project = load(PROJECTS / "newsroom.toml")
    assert (
        complete(project.slices, project.labels.attribution, datetime(2026, 1, 8, 0, 29, tzinfo=UTC))
        == DAYS[:2]
    )
    assert complete(project.slices, project.labels.attribution, datetime(2027, 1, 1, tzinfo=UTC)) == DAYS
    assert complete(project.slices, project.labels.attribution, project.slices.start) == []
    assert (
        complete(project.slices, project.labels.attribution, datetime(2027, 1, 1, tzinfo=UTC), after=DAYS[5])
        == DAYS[6:]
    )


@pytest.mark.parametrize(
    ("stored", "running", "ranges"),
    [
        (DAYS[:-1], [], [(DAYS[-1], DAYS[-1])]),
        (DAYS[:3], [], [(DAYS[3], DAYS[-1])]),
        (DAYS[:3], DAYS[3:6], [(DAYS[6], DAYS[-1])]),
        ([*DAYS[:3], *DAYS[4:]], [], [(DAYS[3], DAYS[-1])]),
        (DAYS, [], []),
        ([], DAYS, []),
    ],
    ids=[
        "the newest",
        "after a pause",
        "beside a run",
        "a gap and the slices after",
        "all stored",
        "all running",
    ],
)
def test_missing_slices_are_due_oldest_first(
    stored: list[str], running: list[str], ranges: list[tuple[str, str]]
) -> None:
    assert due(DAYS, stored, running) == ranges


def test_catching_up_takes_runs_of_bounded_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions_module, "LONGEST", 3)
    assert due(DAYS, [], []) == [(DAYS[0], DAYS[2]), (DAYS[3], DAYS[5]), (DAYS[6], DAYS[7])]


def test_the_schedule_requests_missing_slices_once() -> None:
    project = load(PROJECTS / "newsroom.toml")

    @dg.op
    def nothing() -> None: ...

    @dg.job
    def advance() -> None:
        nothing()

    deployment: Any = SimpleNamespace(project=project, lake=SimpleNamespace(slices=lambda _: DAYS[:2]))
    every_slice = schedule(deployment, "advance")
    with dg.instance_for_test() as instance:

        def tick(day: int) -> list[dg.RunRequest]:
            context = dg.build_schedule_context(
                instance=instance, scheduled_execution_time=datetime(2026, 1, day, 0, 30, tzinfo=UTC)
            )
            requests = every_slice(context)
            return requests if isinstance(requests, list) else []

        (request,) = tick(9)
        assert partition_range(request.tags) == ("2026-01-07", "2026-01-08")
        assert request.tags["momentrank/reason"] == "the slice is complete"
        run = instance.create_run_for_job(advance, tags=range_tags("2026-01-07", "2026-01-08"))
        assert under_way(instance, "advance", DAYS) == {"2026-01-07", "2026-01-08"}
        assert tick(9) == []
        (request,) = tick(10)
        assert partition_range(request.tags) == ("2026-01-09", "2026-01-09")
        instance.report_run_failed(run)
        (again,) = tick(10)
        assert partition_range(again.tags) == ("2026-01-07", "2026-01-09")
        assert again.run_key != request.run_key
