"""Logs that arrive in parts, with late clicks, give the same tables as one run over all of them."""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from features.sources.simulation import newsroom
from pipelines.dagster_names import asset_key
from pipelines.definitions import advance_job, define
from pipelines.deployment import Deployment
from pipelines.monitoring.monitors import MONITORS, View
from pipelines.triggers.arrival import arrivals, late_interactions
from pipelines.triggers.partitions import REPROCESSES, partition_range, range_tags

SMALLER = (
    "source.newsroom.impressions_a_day=60",
    'features.select=["item_*", "user_*", "!*_z"]',
    "interest.width=16",
    "interest.heads=1",
    "ranker.num_iterations=5",
    "ranker.folds=2",
    "promotion.resamples=100",
    "lists.users=2",
    "checks.requests=0",
    'source.format="metarank"',
)
DAYS = ["2026-01-05", "2026-01-06", "2026-01-07"]
(SKEW,) = (monitor.evaluate for monitor in MONITORS.values() if monitor.name == "training_serving_skew")
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
TABLES = ("items", "impressions", "interactions", "candidates", "rejects", "features", "item_vectors",
          "interest_scores", "ranking_dataset", "topic_shifts")  # fmt: skip
CHAIN = [*TABLES, "moment_state", "interest_model"]
"""Assets up to the state and the interest model; evaluation and ranked lists are derived from them."""


def day_of(event: dict[str, Any]) -> str:
    stamp = event["timestamp"]
    at = (
        datetime.fromtimestamp(int(stamp) / 1000, UTC)
        if str(stamp).isdigit()
        else datetime.fromisoformat(stamp)
    )
    return max(DAYS[0], at.strftime("%Y-%m-%d"))


def logs(folder: Path, deployment: Deployment) -> dict[str, list[dict[str, Any]]]:
    """The newsroom's valid events by day; every third click of the second day is known a day later."""
    newsroom.write(deployment.project.reader, folder)
    days: dict[str, list[dict[str, Any]]] = {day: [] for day in DAYS}
    clicks = 0
    for path in sorted((folder / "events").iterdir()):
        for line in gzip.decompress(path.read_bytes()).decode(errors="ignore").splitlines():
            try:
                event = json.loads(line)
                day = day_of(event)
            except (ValueError, KeyError, TypeError):
                continue
            if event.get("event") == "interaction" and day == DAYS[1]:
                clicks += 1
                if clicks % 3 == 0:
                    late = datetime(2026, 1, 7, 12, tzinfo=UTC) + timedelta(seconds=clicks)
                    event["known_at"] = late.isoformat()
                    day = DAYS[2]
            days[day].append(event)
    assert clicks > 6
    return days


def deliver(folder: Path, name: str, events: list[dict[str, Any]]) -> None:
    with gzip.open(folder / f"{name}.jsonl.gz", "wt") as log:
        log.writelines(json.dumps(event) + "\n" for event in events)


def run(deployment: Deployment, instance: dg.DagsterInstance, request: dg.RunRequest) -> None:
    result = advance_job(deployment).execute_in_process(
        instance=instance,
        run_config=QUIET,
        tags=dict(request.tags),
        asset_selection=[asset_key(deployment.project.name, name) for name in CHAIN],
    )
    assert result.success


def test_late_clicks_reprocess_their_slice_and_later_ones(
    tmp_path: Path, small_newsroom: Callable[..., Deployment]
) -> None:
    landing = tmp_path / "in"
    landing.mkdir()
    deployment = small_newsroom(tmp_path / "home", *SMALLER, f'source.landing="{landing}"')
    days = logs(tmp_path / "newsroom", deployment)
    repository = define(deployment).get_repository_def()
    cursors: dict[str, str | None] = {}
    with dg.DagsterInstance.from_config(str(deployment.settings.dagster_home)) as instance:

        def tick(sensor: dg.SensorDefinition) -> list[dg.RunRequest]:
            context = dg.build_sensor_context(
                instance, cursor=cursors.get(sensor.name), repository_def=repository
            )
            result = sensor(context)
            assert isinstance(result, dg.SensorResult)
            cursors[sensor.name] = result.cursor
            return [*(result.run_requests or [])]

        arriving, late = arrivals(deployment, "any"), late_interactions(deployment, "any")
        deliver(landing, "first", days[DAYS[0]] + days[DAYS[1]])
        assert tick(arriving) == []
        (request,) = tick(arriving)
        assert partition_range(request.tags) == (DAYS[0], DAYS[1])
        run(deployment, instance, request)
        assert tick(late) == []
        early = deployment.lake.read("candidates", [DAYS[1]])

        deliver(landing, "second", days[DAYS[2]])
        tick(arriving)
        (request,) = tick(arriving)
        assert partition_range(request.tags) == (DAYS[2], DAYS[2])
        run(deployment, instance, request)
        (request,) = tick(late)
        assert partition_range(request.tags) == (DAYS[1], DAYS[2])
        assert request.tags[REPROCESSES] == DAYS[1]
        run(deployment, instance, request)
        assert tick(late) == tick(arriving) == []

        fresh = small_newsroom(
            tmp_path / "home",
            *SMALLER,
            'name="fresh"',
            "checks.requests=3",
            f'source.path="{landing}"',
        )
        run(fresh, instance, dg.RunRequest(tags=range_tags(DAYS[0], DAYS[2])))
    for day in DAYS:
        found = SKEW(View(fresh.lake, fresh.project, [day]))
        assert found.passed, found.summary
        assert found.summary.startswith("no impression" if day == DAYS[0] else "3 impressions recomputed")

    clicked = [table["clicked"].sum() for table in (early, deployment.lake.read("candidates", [DAYS[1]]))]
    assert clicked[0] < clicked[1]
    for name in (*TABLES, "moment_state/item", "moment_state/user_attribute", "moment_state/moments"):
        assert deployment.lake.read(name).equals(fresh.lake.read(name)), name
