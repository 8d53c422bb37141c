"""Replay a week of logs file by file with a simulated clock, and run what the triggers request.

`python tests/faults/replay.py [--every 6h] [--files 1h] [--last 7d] [--seed 1]`: each file holds the events that
became known in one interval. Some files come late, some are half-written when the folder is scanned, some are broken,
some come twice, and some clicks become known late. Every requested run is executed; then every row of every table is
compared with one run over all logs. The exit status is the number of tables that differ, plus 1 if a broken file was
not refused with a reason.

Slices of minutes, too short to fit a model on:
`--every 1m --files 5m --last 1d --impressions 720 --without interest_model`.
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
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
from home import PROJECT

from features.config.slices import parse_duration
from features.errors import MomentRankError
from features.sources.simulation import newsroom
from pipelines.dagster_names import asset_key
from pipelines.definitions import advance_job, define
from pipelines.deployment import Deployment
from pipelines.event_log import ROOT
from pipelines.settings import settings
from pipelines.triggers import arrival
from pipelines.triggers.partitions import REPROCESSES, partition_range, range_tags

START = datetime(2026, 1, 5, tzinfo=UTC)
AFTERWARDS = 24
"""Intervals to replay after the last event, so that late files still arrive."""
SMALL = (
    "source.newsroom.users=20",
    "source.newsroom.articles_a_day=12",
    "source.newsroom.list_size=8",
    'features.select=["item_*", "user_*", "!*_z"]',
    "interest.epochs=1",
    "interest.max_tokens=16",
    "interest.width=16",
    "interest.heads=1",
)
CHAIN = ("items", "impressions", "interactions", "candidates", "rejects", "features", "item_vectors", "interest_scores",
         "ranking_dataset", "topic_shifts", "moment_state", "interest_model")  # fmt: skip
"""Assets up to the state and the interest model; evaluation and lists only depend on these."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class Clock(datetime):
    """Replaces `datetime`: `now` is the simulated time."""

    instant = START

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return cls.instant


class Replay:
    """One deployment, its landing folder, and the triggers' cursors."""

    def __init__(
        self, deployment: Deployment, landing: Path, instance: dg.DagsterInstance, chain: Sequence[str]
    ) -> None:
        self.deployment, self.landing, self.instance, self.chain = deployment, landing, instance, chain
        self.repository = define(deployment).get_repository_def()
        self.job = advance_job(deployment)
        triggers = (arrival.arrivals, arrival.late_interactions)
        self.triggers = tuple(trigger(deployment, self.job.name) for trigger in triggers)
        self.cursors: dict[str, str | None] = {}
        self.counts: Counter[str] = Counter()

    def deliver(self, name: str, content: bytes) -> None:
        (self.landing / name).write_bytes(content)

    def run_triggers(self) -> None:
        """Evaluate both triggers once and run what they request."""
        for trigger in self.triggers:
            context = dg.build_sensor_context(
                self.instance, cursor=self.cursors.get(trigger.name), repository_def=self.repository
            )
            result = trigger(context)
            assert isinstance(result, dg.SensorResult)
            self.cursors[trigger.name] = result.cursor
            for request in result.run_requests or []:
                self.run(request.tags)

    def run(self, tags: Any) -> None:
        result = self.job.execute_in_process(
            instance=self.instance,
            run_config=QUIET,
            tags=dict(tags),
            asset_selection=[asset_key(self.deployment.project.name, name) for name in self.chain],
        )
        assert result.success
        self.counts["runs"] += 1
        self.counts["runs that reprocess"] += REPROCESSES in tags
        first, last = partition_range(tags) or ("", "")
        slices = [key for key in self.deployment.lake.slices("candidates") if first <= key <= last]
        self.counts["slices materialised"] += len(slices)


def files(
    deployment: Deployment, folder: Path, every: timedelta, last: timedelta, draw: random.Random
) -> dict[int, bytes]:
    """Write the newsroom's logs as one file per interval, by when events became known; delay 5 % of the clicks."""
    newsroom.write(deployment.project.reader, folder)
    events: dict[int, list[str]] = defaultdict(list)
    for path in sorted((folder / "events").iterdir()):
        for line in gzip.decompress(path.read_bytes()).decode(errors="ignore").splitlines():
            try:
                event = json.loads(line)
                at = datetime.fromtimestamp(int(event["timestamp"]) / 1000, UTC)
            except (ValueError, KeyError, TypeError):
                continue
            if at >= START + last:
                continue
            if event.get("event") == "interaction" and draw.random() < 0.05:
                at += every * draw.uniform(2, 20)
                event["known_at"] = at.isoformat()
            events[max(0, (at - START) // every)].append(json.dumps(event))
    return {
        number: gzip.compress("\n".join(lines).encode() + b"\n") for number, lines in sorted(events.items())
    }


def replay_all(replay: Replay, logs: dict[int, bytes], every: timedelta, draw: random.Random) -> None:
    """For each interval: deliver files, run the triggers, complete half-written files, run the triggers again."""
    waiting: dict[int, list[tuple[str, bytes]]] = defaultdict(list)
    for number, content in logs.items():
        late = draw.randrange(1, 12) if draw.random() < 0.1 else 0
        replay.counts["files that came late"] += late > 0
        waiting[number + 1 + late].append((f"f{number:05d}.jsonl.gz", content))
        if draw.random() < 0.1:
            waiting[number + 1 + late + draw.randrange(1, 4)].append(
                (f"again-{number:05d}.jsonl.gz", content)
            )
            replay.counts["files that came twice"] += 1
        if draw.random() < 0.1:
            broken = content[: len(content) // 2] if draw.random() < 0.5 else draw.randbytes(500)
            waiting[number + 1].append((f"broken-{number:05d}.jsonl.gz", broken))
            replay.counts["broken files"] += 1
    began = time.perf_counter()
    for number in range(max(logs) + AFTERWARDS):
        Clock.instant = START + number * every
        unfinished = []
        for name, content in waiting.pop(number, []):
            half = draw.random() < 0.15 and name.startswith("f")
            replay.counts["files seen half-written"] += half
            replay.deliver(name, content[: len(content) // 3] if half else content)
            unfinished += [(name, content)] if half else []
        replay.run_triggers()
        for name, content in unfinished:
            replay.deliver(name, content)
        Clock.instant += every / 60
        replay.run_triggers()
        if number % AFTERWARDS == 0:
            done = replay.counts["slices materialised"]
            print(
                f"{Clock.instant:%a %H:%M} after {time.perf_counter() - began:.0f} s: {done} slices",
                flush=True,
            )


def open_deployment(home: Path, *overrides: str) -> Deployment:
    os.environ |= {
        "MOMENTRANK_HOME": str(home),
        "MOMENTRANK_PROJECT": str(PROJECT),
        "MOMENTRANK_SET": "\n".join((*SMALL, *overrides)),
    }
    loaded = settings.load()
    settings.initialise_dagster(loaded)
    return Deployment(loaded.open_project(), loaded)


def different(replayed: Deployment, fresh: Deployment) -> Iterator[str]:
    """Yield the tables whose rows differ in any bit."""
    for name in sorted(
        name for name in {*replayed.lake.tables(), *fresh.lake.tables()} if not name.startswith(ROOT)
    ):
        try:
            same = replayed.lake.read(name).equals(fresh.lake.read(name))
        except MomentRankError:
            same = False
        if not same:
            yield name


def main(options: argparse.Namespace) -> int:
    """Replay, compare, print; return the exit status."""
    draw, began = random.Random(options.seed), time.perf_counter()
    logging.disable(logging.WARNING)  # one line per arriving file
    with tempfile.TemporaryDirectory() as name, patch.object(arrival, "datetime", Clock):
        folder = Path(name)
        landing = folder / "in"
        landing.mkdir()
        world = (
            f"source.newsroom.days={max(2, -(-options.last // timedelta(days=1)))}",
            f"source.newsroom.impressions_a_day={options.impressions}",
            f'slices.every="{options.every}"',
            f"slices.end={(START + options.last).isoformat()}",
            'source.format="metarank"',
        )
        replayed = open_deployment(folder / "home", *world, f'source.landing="{landing}"')
        with dg.DagsterInstance.from_config(str(replayed.settings.dagster_home)) as instance:
            chain = [name for name in CHAIN if name not in options.without]
            replay = Replay(replayed, landing, instance, chain)
            logs = files(replayed, folder / "newsroom", options.files, options.last, draw)
            replay_all(replay, logs, options.files, draw)
            refused = [Path(record.path) for record in replayed.log.records() if record.refused]
            for path in refused:
                path.unlink()
            fresh = open_deployment(folder / "home", *world, 'name="fresh"', f'source.path="{landing}"')
            slices = replayed.lake.slices("candidates")
            Replay(fresh, landing, instance, chain).run(range_tags(slices[0], slices[-1]))
        differing = [*different(replayed, fresh)]
    print(f"{options.last} in slices of {options.every}: {len(slices)} slices from {len(logs)} files")
    print("".join(f"- {count} {what}\n" for what, count in replay.counts.items()), end="")
    print(f"- {len(refused)} broken files refused with a reason")
    print(f"differences from one run over all logs: {', '.join(differing) or 'none'}")
    print(f"took {time.perf_counter() - began:.0f} s")
    return len(differing) + (len(refused) != replay.counts["broken files"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", default="6h", help="length of a slice")
    parser.add_argument("--files", type=parse_duration, default="1h", help="time between two files")
    parser.add_argument("--last", type=parse_duration, default="7d", help="how long the logs last")
    parser.add_argument("--impressions", type=int, default=48, help="impressions per day")
    parser.add_argument("--without", action="append", default=[], choices=CHAIN, help="asset to leave out")
    parser.add_argument("--seed", type=int, default=1)
    sys.exit(main(parser.parse_args()))
