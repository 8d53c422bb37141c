"""What a table costs with many slices: opened anew, brought up to date by a kept handle, written, read.

`python tests/benchmarks/lake.py [--slices 2000] [--every 500]` writes a table slice by slice in a temporary folder and
prints mean milliseconds, a line every so many. The peer is `deltalake.DeltaTable`, opened anew.
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
    """Seconds by what they were spent on."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.spent[what] += time.perf_counter() - began


def main(asked: argparse.Namespace) -> None:
    """Write, open both ways, read, slice by slice."""
    print("| slices | opened anew | kept | of so many times | write | read of one slice |")
    print("|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        lake, handles = Lake(folder), Handles()
        for first in range(0, asked.slices, asked.every):
            last = first + asked.every
            spent = _stretch(lake, handles, range(first, last))
            anew, kept, write, read = (
                1000 * spent[what] / asked.every for what in ("anew", "kept", "write", "read")
            )
            print(
                f"| {last:,} | {anew:.1f} ms | {kept:.1f} ms | {anew / kept:.1f} × | {write:.1f} ms | {read:.1f} ms |",
                flush=True,
            )


def _stretch(lake: Lake, handles: Handles, numbers: range) -> dict[str, float]:
    times = Times()
    for number in numbers:
        slice = f"s{number:06d}"
        with times.of("write"):
            lake.write("table", slice, ROWS)
        with times.of("kept"):
            handles.open(lake.location("table"), {})
        with times.of("anew"):
            DeltaTable(lake.location("table"))
        with times.of("read"):
            lake.read("table", [slice])
    return times.spent


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, default=2000)
    parser.add_argument("--every", type=int, default=500, help="slices of a line")
    main(parser.parse_args())
