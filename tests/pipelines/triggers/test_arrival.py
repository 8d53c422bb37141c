"""What comes asks for the runs that it makes necessary, each once."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from features.config.project import Project
from pipelines.event_log import EventLog, Record
from pipelines.identities import Privacy
from pipelines.lake import Lake
from pipelines.triggers.arrival import LATE, arrivals, late_interactions, late_since, touched
from pipelines.triggers.partitions import REASON, REPROCESSES, spanned

DAYS = [f"2026-01-{day:02}" for day in range(5, 13)]


def project(folder: Path = Path(), **source: Any) -> Project:
    given = {"format": "metarank", "landing": "in", **source}
    slices = {"start": datetime(2026, 1, 5, tzinfo=UTC), "end": datetime(2026, 1, 13, tzinfo=UTC)}
    return Project.model_validate({"name": "toy", "source": given, "slices": slices, "folder": folder})


def records(*slices: tuple[str, ...]) -> list[Record]:
    return [Record(n, f"{n}.jsonl", 1, "", f"{n}", slices=keys) for n, keys in enumerate(slices, start=1)]


def ranges(
    found: list[Record], since: int, wanted: list[str], kept: list[str], waiting: tuple[str, ...] = ()
) -> list[tuple[str, str]]:
    return touched(found, since, wanted, kept, waiting, project())[0]


def test_a_log_runs_its_complete_slices_and_no_others() -> None:
    came = records((DAYS[0],), (DAYS[1], DAYS[2]))
    assert ranges(came, 0, DAYS[:2], []) == [(DAYS[0], DAYS[1])]
    assert ranges(came, 1, DAYS[:3], DAYS[:1]) == [(DAYS[1], DAYS[2])]
    assert ranges(came, 2, DAYS[:5], DAYS[:3]) == []


def test_a_slice_runs_when_it_closes_though_its_log_came_before() -> None:
    came = records((DAYS[0], DAYS[1]))
    assert ranges(came, 1, DAYS[:1], DAYS[:1]) == []
    assert ranges(came, 1, DAYS[:2], DAYS[:1]) == [(DAYS[1], DAYS[1])]


def test_a_log_for_a_slice_that_was_run_runs_it_again_and_all_after_it() -> None:
    came = records((DAYS[0],), (DAYS[3],), (DAYS[2],))
    assert ranges(came, 2, DAYS[:5], DAYS[:4]) == [(DAYS[2], DAYS[3])]
    assert ranges(came, 3, DAYS[:5], DAYS[:4]) == []


def test_slices_without_events_are_run_for_the_sake_of_those_after_them() -> None:
    assert ranges(records((DAYS[3],)), 0, DAYS, DAYS[:1]) == [(DAYS[1], DAYS[3])]


def test_what_a_run_will_do_is_not_asked_for_again_unless_more_came() -> None:
    came = records((DAYS[0], DAYS[1]))
    assert ranges(came, 1, DAYS[:3], [], (DAYS[0], DAYS[1])) == []
    assert ranges(came, 0, DAYS[:3], [], (DAYS[0], DAYS[1])) == [(DAYS[0], DAYS[1])]


def test_what_comes_later_than_declared_is_named_and_left() -> None:
    came = records((DAYS[0], DAYS[5]))
    found, too_old = touched(came, 0, DAYS, DAYS[:6], (), project(late="2d"))
    assert found == [(DAYS[5], DAYS[5])]
    assert too_old == [DAYS[0]]
    assert touched(came, 0, DAYS, DAYS[:6], (), project(late="9d")) == ([(DAYS[0], DAYS[5])], [])


@dg.op
def nothing() -> None: ...


@dg.job
def advance() -> None:
    nothing()


REPOSITORY = dg.Definitions(jobs=[advance]).get_repository_def()


def deployment(folder: Path, kept: list[str]) -> Any:
    lake, made = Lake(str(folder / "lake")), project(folder)
    log = EventLog(lake, made, Privacy(lake, ""), folder / "lock")
    kept_lake = SimpleNamespace(slices=lambda _: kept)
    return SimpleNamespace(project=made, settings=SimpleNamespace(home=folder), lake=kept_lake, log=log)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as found:
        yield found


def test_a_tick_takes_in_what_settled_and_asks_for_its_run(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    place = tmp_path / "in"
    kept = DAYS[:1]
    sensor = arrivals(deployment(tmp_path, kept), "advance")

    def tick(cursor: str | None) -> tuple[list[dg.RunRequest], str | None]:
        context = dg.build_sensor_context(instance, cursor=cursor, repository_def=REPOSITORY)
        result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        return [*(result.run_requests or [])], result.cursor

    assert tick(None)[0] == []
    at = datetime(2026, 1, 6, 12, tzinfo=UTC).isoformat()
    shown = {"event": "ranking", "id": "i", "user": "u", "timestamp": at, "items": [{"id": "a"}]}
    (place / "log.jsonl").write_text(json.dumps(shown) + "\n")
    (place / "words.jsonl").write_text("no log\n")
    none, cursor = tick(None)
    assert none == []
    (asked,), after = tick(cursor)
    assert spanned(asked.tags) == (DAYS[1], DAYS[1])
    assert asked.tags[REASON] == "new logs arrived"
    assert REPROCESSES not in asked.tags
    refused = [record for record in deployment(tmp_path, kept).log.records() if record.refused]
    assert ["no readable row" in record.refused for record in refused] == [True]
    # Evaluated again with the cursor from before, as after a crash, the run has the same key.
    (again,), _ = tick(cursor)
    assert again.run_key == asked.run_key
    kept.append(DAYS[1])
    assert tick(after)[0] == []

    (place / "more.jsonl").write_text(json.dumps({**shown, "id": "j"}) + "\n")
    _, cursor = tick(after)
    (asked,), _ = tick(cursor)
    assert spanned(asked.tags) == (DAYS[1], DAYS[1])
    assert asked.tags[REPROCESSES] == DAYS[1]


def materialise(instance: dg.DagsterInstance, slice: str, late: list[str]) -> None:
    event = dg.AssetMaterialization(
        dg.AssetKey(["toy", "candidates"]), partition=slice, metadata={LATE: dg.MetadataValue.json(late)}
    )
    instance.report_runless_asset_event(event)


def test_late_slices_are_run_again_up_to_the_newest_once(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    sensor = late_interactions(deployment(tmp_path, DAYS[:4]), "advance")

    def tick(cursor: str | None) -> dg.SensorResult:
        context = dg.build_sensor_context(instance, cursor=cursor, repository_def=REPOSITORY)
        found = sensor(context)
        assert isinstance(found, dg.SensorResult)
        return found

    assert tick(None).run_requests in (None, [])
    for slice in DAYS[:3]:
        materialise(instance, slice, [])
    materialise(instance, DAYS[3], [DAYS[1], DAYS[2]])
    found = tick(None)
    (asked,) = found.run_requests or []
    assert spanned(asked.tags) == (DAYS[1], DAYS[3])
    assert asked.tags[REPROCESSES] == f"{DAYS[1]} {DAYS[2]}"
    assert DAYS[1] in asked.tags[REASON]
    assert not tick(found.cursor).run_requests
    # Run again since, they are late no more, whatever the cursor says.
    for slice in DAYS[1:4]:
        materialise(instance, slice, [])
    assert late_since(instance, project(tmp_path), 0)[0] == []
    assert not tick(None).run_requests
