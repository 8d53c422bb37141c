"""Measure a table with many slices: open it, refresh an open handle, write, read.

`python tests/benchmarks/lake.py [--slices 2000] [--every 500]` writes a table slice by slice in a temporary folder and
prints mean milliseconds, one line per `--every` slices. The peer opens a `deltalake.DeltaTable` each time.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl
from deltalake import DeltaTable

from pipelines.lake import Lake
from pipelines.lake.handles import Handles

ROWS = pl.DataFrame({"n": range(20), "name": [f"name {n}" for n in range(20)]})


class Times:
    """Seconds spent, by operation."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def of(self, operation: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.spent[operation] += time.perf_counter() - began


def main(options: argparse.Namespace) -> None:
    """Write, open both ways and read, slice by slice; print the table."""
    print("| slices | open | refresh | speed-up | write | read one slice |")
    print("|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        lake, handles = Lake(folder), Handles()
        for first in range(0, options.slices, options.every):
            last = first + options.every
            spent = _measure(lake, handles, range(first, last))
            open_, refresh, write, read = (
                1000 * spent[operation] / options.every for operation in ("open", "refresh", "write", "read")
            )
            cells = f"{open_:.1f} ms | {refresh:.1f} ms | {open_ / refresh:.1f} × | {write:.1f} ms | {read:.1f} ms"
            print(f"| {last:,} | {cells} |", flush=True)


def _measure(lake: Lake, handles: Handles, numbers: range) -> dict[str, float]:
    times = Times()
    for number in numbers:
        slice = f"s{number:06d}"
        with times.of("write"):
            lake.write("table", slice, ROWS)
        with times.of("refresh"):
            handles.open(lake.location("table"), {})
        with times.of("open"):
            DeltaTable(lake.location("table"))
        with times.of("read"):
            lake.read("table", [slice])
    return times.spent


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, default=2000)
    parser.add_argument("--every", type=int, default=500, help="slices per line")
    main(parser.parse_args())
