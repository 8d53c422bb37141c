"""Logs that arrive piece by piece, clicks that come late among them, end in the tables of a run over all of them."""

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
(SKEW,) = (monitor.evaluate for monitor in MONITORS if monitor.name == "training_serving_skew")
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
TABLES = ("items", "impressions", "interactions", "candidates", "rejects", "features", "item_vectors",
          "interest_scores", "ranking_dataset", "topic_shifts")  # fmt: skip
CHAIN = [*TABLES, "moment_state", "interest_model"]
"""All that a state runs through; what is evaluated and listed comes of these tables."""


def day_of(event: dict[str, Any]) -> str:
    stamp = event["timestamp"]
    at = (
        datetime.fromtimestamp(int(stamp) / 1000, UTC)
        if str(stamp).isdigit()
        else datetime.fromisoformat(stamp)
    )
    return max(DAYS[0], at.strftime("%Y-%m-%d"))


def logs(folder: Path, made: Deployment) -> dict[str, list[dict[str, Any]]]:
    """The newsroom's sound events by day; of the second day's clicks, every third is known a day later."""
    newsroom.write(made.project, folder)
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


def run(made: Deployment, instance: dg.DagsterInstance, request: dg.RunRequest) -> None:
    result = advance_job(made).execute_in_process(
        instance=instance,
        run_config=QUIET,
        tags=dict(request.tags),
        asset_selection=[asset_key(made.project, name) for name in CHAIN],
    )
    assert result.success


def test_late_clicks_restate_their_slice_and_what_came_of_it(
    tmp_path: Path, small_newsroom: Callable[..., Deployment]
) -> None:
    landing = tmp_path / "in"
    landing.mkdir()
    made = small_newsroom(tmp_path / "home", *SMALLER, f'source.landing="{landing}"')
    days = logs(tmp_path / "newsroom", made)
    repository = define(made).get_repository_def()
    cursors: dict[str, str | None] = {}
    with dg.DagsterInstance.from_config(str(made.settings.dagster_home)) as instance:

        def tick(sensor: dg.SensorDefinition) -> list[dg.RunRequest]:
            context = dg.build_sensor_context(
                instance, cursor=cursors.get(sensor.name), repository_def=repository
            )
            found = sensor(context)
            assert isinstance(found, dg.SensorResult)
            cursors[sensor.name] = found.cursor
            return [*(found.run_requests or [])]

        arriving, late = arrivals(made, "any"), late_interactions(made, "any")
        deliver(landing, "first", days[DAYS[0]] + days[DAYS[1]])
        assert tick(arriving) == []
        (asked,) = tick(arriving)
        assert partition_range(asked.tags) == (DAYS[0], DAYS[1])
        run(made, instance, asked)
        assert tick(late) == []
        early = made.lake.read("candidates", [DAYS[1]])

        deliver(landing, "second", days[DAYS[2]])
        tick(arriving)
        (asked,) = tick(arriving)
        assert partition_range(asked.tags) == (DAYS[2], DAYS[2])
        run(made, instance, asked)
        (asked,) = tick(late)
        assert partition_range(asked.tags) == (DAYS[1], DAYS[2])
        assert asked.tags[REPROCESSES] == DAYS[1]
        run(made, instance, asked)
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
        found = SKEW(View(fresh, [day]))
        assert found.passed, found.summary
        assert found.summary.startswith("no impression" if day == DAYS[0] else "3 impressions recomputed")

    clicked = [table["clicked"].sum() for table in (early, made.lake.read("candidates", [DAYS[1]]))]
    assert clicked[0] < clicked[1]
    for name in (*TABLES, "moment_state/item", "moment_state/user_attribute", "moment_state/moments"):
        assert made.lake.read(name).equals(fresh.lake.read(name)), name
