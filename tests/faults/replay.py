"""A week in minutes: logs arrive hour by hour, and the triggers run what they ask for, by a clock that is ours.

`python tests/faults/replay.py [--every 6h] [--days 7] [--seed 1]`: of the hourly files some come hours late, some lie
half-written when the folder is looked at, some are broken, some come twice; of the clicks some are known late. Whatever
the triggers ask for is run; then every row of every table is compared with one run over all logs. The exit status is
the number of tables that differ, and 1 more if a broken file was not set aside with its reason.
"""

import argparse
import gzip
import json
import logging
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
from home import PROJECT

from features import newsroom
from features.errors import MomentRankError
from pipelines import arrival, settings
from pipelines.definitions import JOB, define
from pipelines.deployment import Deployment
from pipelines.timetable import RESTATES, span, spanned

START = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
AFTERWARDS = 24
"""Hours after the last event in which what is late still arrives."""
SMALL = (
    "source.newsroom.users=20",
    "source.newsroom.articles_a_day=12",
    "source.newsroom.impressions_a_day=48",
    "source.newsroom.list_size=8",
    'features.select=["item_*", "user_*", "!*_z"]',
    "interest.epochs=1",
    "interest.max_tokens=16",
    "interest.width=16",
    "interest.heads=1",
)
CHAIN = ("items", "impressions", "interactions", "candidates", "rejects", "features", "item_vectors", "interest_scores",
         "ranking_dataset", "topic_shifts", "moment_state", "interest_model")  # fmt: skip
"""All that a state runs through; what is judged and listed comes of it."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Clock(datetime):
    """What the product takes for now."""

    said = START

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return cls.said


class Replay:
    """One deployment, its landing folder, and the triggers' cursors."""

    def __init__(self, made: Deployment, landing: Path, instance: dg.DagsterInstance) -> None:
        self.made, self.landing, self.instance = made, landing, instance
        self.repository = define(made).get_repository_def()
        self.job = define(made).resolve_job_def(JOB)
        self.triggers = (arrival.arrivals(JOB), arrival.late_interactions(JOB))
        self.cursors: dict[str, str | None] = {}
        self.counts: Counter[str] = Counter()

    def deliver(self, name: str, content: bytes) -> None:
        (self.landing / name).write_bytes(content)

    def look(self) -> None:
        """Both triggers once, and what they ask for."""
        for trigger in self.triggers:
            context = dg.build_sensor_context(
                self.instance, cursor=self.cursors.get(trigger.name), repository_def=self.repository
            )
            found = trigger(context, deployment=self.made)
            assert isinstance(found, dg.SensorResult)
            self.cursors[trigger.name] = found.cursor
            for asked in found.run_requests or []:
                self.run(asked.tags)

    def run(self, tags: Any) -> None:
        result = self.job.execute_in_process(
            instance=self.instance,
            run_config=QUIET,
            tags=dict(tags),
            asset_selection=[dg.AssetKey(name) for name in CHAIN],
        )
        assert result.success
        self.counts["runs"] += 1
        self.counts["runs that restate"] += RESTATES in tags
        first, last = spanned(tags) or ("", "")
        slices = [key for key in self.made.lake.slices("candidates") if first <= key <= last]
        self.counts["slices materialised"] += len(slices)


def hours(made: Deployment, folder: Path, draw: random.Random) -> dict[int, bytes]:
    """The newsroom's logs by the hour in which they became known; of the clicks some are known hours late."""
    newsroom.write(made.project, folder)
    found: dict[int, list[str]] = defaultdict(list)
    for path in sorted((folder / "events").iterdir()):
        for line in gzip.decompress(path.read_bytes()).decode(errors="ignore").splitlines():
            try:
                event = json.loads(line)
                at = datetime.fromtimestamp(int(event["timestamp"]) / 1000, UTC)
            except (ValueError, KeyError, TypeError):
                continue
            if event.get("event") == "interaction" and draw.random() < 0.05:
                at += timedelta(hours=draw.uniform(2, 20))
                event["known_at"] = at.isoformat()
            found[max(0, int((at - START) / HOUR))].append(json.dumps(event))
    return {hour: gzip.compress("\n".join(lines).encode() + b"\n") for hour, lines in sorted(found.items())}


def week(replay: Replay, logs: dict[int, bytes], draw: random.Random) -> None:
    """Hour by hour: deliver, look, finish what was half-written, look again."""
    waiting: dict[int, list[tuple[str, bytes]]] = defaultdict(list)
    for hour, content in logs.items():
        late = draw.randrange(1, 12) if draw.random() < 0.1 else 0
        replay.counts["files that came late"] += late > 0
        waiting[hour + 1 + late].append((f"h{hour:04d}.jsonl.gz", content))
        if draw.random() < 0.1:
            waiting[hour + 1 + late + draw.randrange(1, 4)].append((f"again-{hour:04d}.jsonl.gz", content))
            replay.counts["files that came twice"] += 1
        if draw.random() < 0.1:
            broken = content[: len(content) // 2] if draw.random() < 0.5 else draw.randbytes(500)
            waiting[hour + 1].append((f"broken-{hour:04d}.jsonl.gz", broken))
            replay.counts["broken files"] += 1
    for hour in range(max(logs) + AFTERWARDS):
        Clock.said = START + hour * HOUR
        unfinished = []
        for name, content in waiting.pop(hour, []):
            half = draw.random() < 0.15 and name.startswith("h")
            replay.counts["files seen half-written"] += half
            replay.deliver(name, content[: len(content) // 3] if half else content)
            unfinished += [(name, content)] if half else []
        replay.look()
        for name, content in unfinished:
            replay.deliver(name, content)
        Clock.said += timedelta(minutes=1)
        replay.look()


def deployment(home: Path, *overrides: str) -> Deployment:
    os.environ |= {
        "MOMENTRANK_HOME": str(home),
        "MOMENTRANK_PROJECT": str(PROJECT),
        "MOMENTRANK_SET": "\n".join((*SMALL, *overrides)),
    }
    found = settings.load()
    settings.initialise_dagster(found)
    return Deployment(found.open_project(), found)


def different(made: Deployment, fresh: Deployment) -> Iterator[str]:
    """Tables whose rows are not the same, to the last bit."""
    for name in sorted({*made.lake.tables()} | {*fresh.lake.tables()}):
        try:
            same = made.lake.read(name).equals(fresh.lake.read(name))
        except MomentRankError:
            same = False
        if not same:
            yield name


def main(asked: argparse.Namespace) -> int:
    """Replay, compare, print."""
    draw, began = random.Random(asked.seed), time.perf_counter()
    logging.disable(logging.WARNING)  # a line a file that came
    with tempfile.TemporaryDirectory() as name, patch.object(arrival, "datetime", Clock):
        place = Path(name)
        landing = place / "in"
        landing.mkdir()
        world = (
            f"source.newsroom.days={asked.days}",
            f'slices.every="{asked.every}"',
            f"slices.end={(START + timedelta(days=asked.days)).isoformat()}",
            'source.format="metarank"',
        )
        made = deployment(place / "home", *world, f'source.landing="{landing}"')
        with dg.DagsterInstance.from_config(str(made.settings.dagster_home)) as instance:
            replay = Replay(made, landing, instance)
            logs = hours(made, place / "newsroom", draw)
            week(replay, logs, draw)
            accepted = f'source.path="{landing / "accepted"}"'
            fresh = deployment(place / "home", *world, 'name="fresh"', accepted)
            slices = made.lake.slices("candidates")
            Replay(fresh, landing, instance).run(span(slices[0], slices[-1]))
        refused = [*(landing / "refused").glob("broken-*.reason")]
        apart = [*different(made, fresh)]
    print(f"{asked.days} days in slices of {asked.every}: {len(slices)} slices from {len(logs)} hourly files")
    print("".join(f"- {count} {what}\n" for what, count in replay.counts.items()), end="")
    print(f"- {len(refused)} broken files set aside with their reason")
    print(f"differences from one run over all logs: {', '.join(apart) or 'none'}")
    print(f"took {time.perf_counter() - began:.0f} s")
    return len(apart) + (len(refused) != replay.counts["broken files"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", default="6h", help="length of a slice")
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--seed", type=int, default=1)
    sys.exit(main(parser.parse_args()))
