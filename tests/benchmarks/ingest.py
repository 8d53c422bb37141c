"""Measure ingestion: read, validate by schema, and write to the lake slice by slice.

`python tests/benchmarks/ingest.py [--events N]` writes synthetic logs into a temporary folder, N events as JSON lines
and 5 N candidate rows as Parquet in both shapes, and prints a Markdown table. Each implementation reads the same
files in its own process: ours; DuckDB, with the same rules in SQL; and, for JSON lines, a plain Python loop. All must
keep the same rows, or the script exits with 1. Ours also reports why it rejected a row; the others only skip it.

`--history` measures parsing one more day of N events, and reading its slice, after 10 and after 100 days.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ingest_logs import LOGS, START, write_day, write_logs
from ingest_peers import Kept, with_duckdb, with_loop

from features.config.project import Project
from pipelines.event_log import EventLog
from pipelines.identities import Privacy
from pipelines.lake import Lake

TABLES = ("impressions", "interactions", "items", "rejects")

Way = Callable[[Path, Path], Kept]


def main(count: int) -> int:
    """Write the logs, run every implementation, print the table; return how many kept other rows than ours."""
    differing = 0
    print(
        "| log | way | rows | seconds | CPU seconds | rows/s | ours is | peak memory |\n"
        "|---|---|---:|---:|---:|---:|---:|---:|"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = write_logs(folder, count)
        for log, ways in WAYS.items():
            ours: dict[str, Any] = {}
            for way in ways:
                if way == "DuckDB" and find_spec("duckdb") is None:
                    print(f"| {log} | DuckDB | not installed | | | | | |")
                    continue
                result = _measure(log, way, folder)
                ours = ours or result
                differing += result["kept"] != ours["kept"]
                if result["kept"] != ours["kept"]:
                    print(f"{way} kept {result['kept']}, not {ours['kept']}", file=sys.stderr)
                speed, ratio = rows[log] / result["seconds"], result["busy"] / ours["busy"]
                print(
                    f"| {log} | {way} | {rows[log]:,} | {result['seconds']:.2f} | {result['busy']:.2f} | "
                    f"{speed:,.0f} | {ratio:.1f} × "
                    f"| {result['gigabytes']:.1f} GB |",
                    flush=True,
                )
    return differing


def _measure(log: str, way: str, folder: Path) -> dict[str, Any]:
    """Run one implementation in its own process, to measure its peak memory."""
    command = [sys.executable, __file__, "--log", log, "--way", way, "--folder", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _run(log: str, way: str, folder: Path) -> None:
    began, worked = time.perf_counter(), time.process_time()
    kept = WAYS[log][way](folder / LOGS[log], folder / f"{log} {way}")
    seconds, busy = time.perf_counter() - began, time.process_time() - worked
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"seconds": seconds, "busy": busy, "gigabytes": gigabytes, "kept": kept}))


def _ours(log: Path, out: Path) -> Kept:
    """Ingest as the pipeline does."""
    event_log = _log(log, out)
    event_log.take_in([log])
    return {name: event_log.read(name, columns=["slice"]).height for name in TABLES[:3]}


def _log(log: Path, out: Path) -> EventLog:
    source: dict[str, Any] = {"format": "metarank", "path": log.name}
    if log.suffix == ".parquet":
        mapping = {"shape": log.stem, "at": "shown_at", "item": "items", "impression": "impression_id"}
        source = {"format": "tables", "path": log.name, "tables": {**mapping, "clicked": "clicked"}}
    project = Project.model_validate(
        {
            "name": "ingest",
            "source": source,
            "slices": {"start": START},
            "items": {"body": "body", "numeric": ["length"], "categorical": ["category", "tags"]},
            "context": {"categorical": ["surface"]},
        }
    )
    lake = Lake(str(out))
    return EventLog(lake, project, Privacy(lake, ""), out / "lock")


def history(count: int) -> None:
    """Print the cost of one day after 10 and 100 days."""
    print("| days before | CPU seconds | MB read | peak memory, GB |\n|---:|---:|---:|---:|")
    for days in (10, 100):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for day in range(days):
                write_day(folder / "logs", day, count)
            _log(folder / "logs", folder / "lake").take_in([folder / "logs"])
            write_day(folder / "logs", days, count)
            command = [sys.executable, __file__, "--day", str(days), "--folder", name]
            print(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout, end="")


def _day(number: int, folder: Path) -> None:
    log = _log(folder / "logs", folder / "lake")
    worked, read = time.process_time(), _bytes_read()
    log.take_in([folder / "logs"])
    ((_, events, _),) = log.walk([f"{START + timedelta(days=number):%Y-%m-%d}"])
    worked, read = time.process_time() - worked, _bytes_read() - read
    assert events.interactions.height
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"| {number} | {worked:.2f} | {read / 1e6:.1f} | {gigabytes:.2f} |")


def _bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


WAYS: dict[str, dict[str, Way]] = {
    "events": {"ours": _ours, "Python loop": with_loop, "DuckDB": with_duckdb},
    "lists": {"ours": _ours, "DuckDB": with_duckdb},
    "candidates": {"ours": _ours, "DuckDB": with_duckdb},
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000, help="lines of the event log")
    parser.add_argument("--log", choices=LOGS, help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--history", action="store_true", help="measure one day after 10 and 100 days")
    parser.add_argument("--day", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.history:
        history(options.events)
    elif options.day:
        _day(options.day, options.folder)
    elif options.way:
        _run(options.log, options.way, options.folder)
    else:
        sys.exit(1 if main(options.events) else 0)
