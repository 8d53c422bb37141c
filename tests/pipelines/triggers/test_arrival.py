"""New files and late interactions request the runs that they need, once each."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from features.config.project import Project
from pipelines.event_log import EventLog, Record
from pipelines.identities import Privacy
from pipelines.lake import Lake
from pipelines.triggers.arrival import LATE, arrivals, late_interactions, late_since, ranges_to_run
from pipelines.triggers.partitions import REASON, REPROCESSES, partition_range

DAYS = [f"2026-01-{day:02}" for day in range(5, 13)]


def project(folder: Path = Path(), **source: Any) -> Project:
    declared = {"format": "metarank", "landing": "in", **source}
    slices = {"start": datetime(2026, 1, 5, tzinfo=UTC), "end": datetime(2026, 1, 13, tzinfo=UTC)}
    return Project.model_validate({"name": "toy", "source": declared, "slices": slices, "folder": folder})


def records(*slices: tuple[str, ...]) -> list[Record]:
    return [Record(n, f"{n}.jsonl", 1, "", f"{n}", slices=keys) for n, keys in enumerate(slices, start=1)]


def ranges(
    log: list[Record], since: int, complete: list[str], stored: list[str], running: tuple[str, ...] = ()
) -> list[tuple[str, str]]:
    return ranges_to_run(log, since, complete, stored, running, project().slices, timedelta(days=2))[0]


def test_a_log_runs_its_complete_slices_and_no_others() -> None:
    log = records((DAYS[0],), (DAYS[1], DAYS[2]))
    assert ranges(log, 0, DAYS[:2], []) == [(DAYS[0], DAYS[1])]
    assert ranges(log, 1, DAYS[:3], DAYS[:1]) == [(DAYS[1], DAYS[2])]
    assert ranges(log, 2, DAYS[:5], DAYS[:3]) == []


def test_a_slice_runs_once_complete_even_if_its_log_is_old() -> None:
    log = records((DAYS[0], DAYS[1]))
    assert ranges(log, 1, DAYS[:1], DAYS[:1]) == []
    assert ranges(log, 1, DAYS[:2], DAYS[:1]) == [(DAYS[1], DAYS[1])]


def test_a_log_for_a_stored_slice_reprocesses_it_and_all_after_it() -> None:
    log = records((DAYS[0],), (DAYS[3],), (DAYS[2],))
    assert ranges(log, 2, DAYS[:5], DAYS[:4]) == [(DAYS[2], DAYS[3])]
    assert ranges(log, 3, DAYS[:5], DAYS[:4]) == []


def test_slices_without_events_run_before_those_after_them() -> None:
    assert ranges(records((DAYS[3],)), 0, DAYS, DAYS[:1]) == [(DAYS[1], DAYS[3])]


def test_a_running_slice_is_not_requested_again_unless_new_events_arrive() -> None:
    log = records((DAYS[0], DAYS[1]))
    assert ranges(log, 1, DAYS[:3], [], (DAYS[0], DAYS[1])) == []
    assert ranges(log, 0, DAYS[:3], [], (DAYS[0], DAYS[1])) == [(DAYS[0], DAYS[1])]


def test_events_beyond_the_allowed_lateness_are_reported_and_ignored() -> None:
    log = records((DAYS[0], DAYS[5]))
    due, too_old = ranges_to_run(log, 0, DAYS, DAYS[:6], (), project().slices, timedelta(days=2))
    assert due == [(DAYS[5], DAYS[5])]
    assert too_old == [DAYS[0]]
    assert ranges_to_run(log, 0, DAYS, DAYS[:6], (), project().slices, timedelta(days=9)) == (
        [(DAYS[0], DAYS[5])],
        [],
    )


@dg.op
def nothing() -> None: ...


@dg.job
def advance() -> None:
    nothing()


REPOSITORY = dg.Definitions(jobs=[advance]).get_repository_def()


def deployment(folder: Path, stored: list[str]) -> Any:
    lake, config = Lake(str(folder / "lake")), project(folder)
    log = EventLog(lake, config, Privacy(lake, ""), folder / "lock")
    stored_lake = SimpleNamespace(slices=lambda _: stored)
    return SimpleNamespace(project=config, settings=SimpleNamespace(home=folder), lake=stored_lake, log=log)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


def test_the_sensor_parses_settled_files_and_requests_their_run(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    landing = tmp_path / "in"
    stored = DAYS[:1]
    sensor = arrivals(deployment(tmp_path, stored), "advance")

    def tick(cursor: str | None) -> tuple[list[dg.RunRequest], str | None]:
        context = dg.build_sensor_context(instance, cursor=cursor, repository_def=REPOSITORY)
        result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        return [*(result.run_requests or [])], result.cursor

    assert tick(None)[0] == []
    at = datetime(2026, 1, 6, 12, tzinfo=UTC).isoformat()
    shown = {"event": "ranking", "id": "i", "user": "u", "timestamp": at, "items": [{"id": "a"}]}
    (landing / "log.jsonl").write_text(json.dumps(shown) + "\n")
    (landing / "words.jsonl").write_text("no log\n")
    none, cursor = tick(None)
    assert none == []
    (requested,), after = tick(cursor)
    assert partition_range(requested.tags) == (DAYS[1], DAYS[1])
    assert requested.tags[REASON] == "new logs arrived"
    assert REPROCESSES not in requested.tags
    refused = [record for record in deployment(tmp_path, stored).log.records() if record.refused]
    assert ["no readable row" in record.refused for record in refused] == [True]
    # With the previous cursor, as after a crash, the same run key is requested.
    (again,), _ = tick(cursor)
    assert again.run_key == requested.run_key
    stored.append(DAYS[1])
    assert tick(after)[0] == []

    (landing / "more.jsonl").write_text(json.dumps({**shown, "id": "j"}) + "\n")
    _, cursor = tick(after)
    (requested,), _ = tick(cursor)
    assert partition_range(requested.tags) == (DAYS[1], DAYS[1])
    assert requested.tags[REPROCESSES] == DAYS[1]


def materialise(instance: dg.DagsterInstance, slice: str, late: list[str]) -> None:
    event = dg.AssetMaterialization(
        dg.AssetKey(["toy", "candidates"]), partition=slice, metadata={LATE: dg.MetadataValue.json(late)}
    )
    instance.report_runless_asset_event(event)


def test_late_slices_are_reprocessed_once_up_to_the_newest(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    sensor = late_interactions(deployment(tmp_path, DAYS[:4]), "advance")

    def tick(cursor: str | None) -> dg.SensorResult:
        context = dg.build_sensor_context(instance, cursor=cursor, repository_def=REPOSITORY)
        result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        return result

    assert tick(None).run_requests in (None, [])
    for slice in DAYS[:3]:
        materialise(instance, slice, [])
    materialise(instance, DAYS[3], [DAYS[1], DAYS[2]])
    result = tick(None)
    (requested,) = result.run_requests or []
    assert partition_range(requested.tags) == (DAYS[1], DAYS[3])
    assert requested.tags[REPROCESSES] == f"{DAYS[1]} {DAYS[2]}"
    assert DAYS[1] in requested.tags[REASON]
    assert not tick(result.cursor).run_requests
    # Once run again, they are no longer late, whatever the cursor says.
    for slice in DAYS[1:4]:
        materialise(instance, slice, [])
    assert late_since(instance, "toy", 0)[0] == []
    assert not tick(None).run_requests
