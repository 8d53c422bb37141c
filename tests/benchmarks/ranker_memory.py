"""What one process needs to fit a ranker: memory and time against candidates.

`python tests/benchmarks/ranker_memory.py [--rows 250000 500000 1000000] [--columns 231] [--rounds 20]` fits seeded rows
of that many columns, lists of 20 of which one in twelve is clicked, each size in a process of its own, and prints a
Markdown table. Every round that is asked for is grown, on two folds side by side and then on all rows: time is in
proportion to rounds, memory is not. What the process takes before it has rows is told apart.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from features.config.sections import Labels, Ranker
from models.ranker import fit

LISTED = 20
SLICES = 4
CLICKS = 1 / 12


def main(asked: argparse.Namespace) -> None:
    """Run each size, print the table."""
    print(f"{asked.columns} columns, {asked.rounds} rounds, LightGBM's threads as the product sets them\n")
    print(
        "| candidates | the rows alone | peak memory | beyond the start, a million | seconds | CPU seconds |"
    )
    print("|---:|---:|---:|---:|---:|---:|")
    for rows in asked.rows:
        told = [f"--{name}={getattr(asked, name)}" for name in ("columns", "rounds")]
        command = [sys.executable, __file__, "--one", f"--rows={rows}", *told]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        cells = [
            f"{rows:,} | {found['table']:.2f} GB | {found['peak']:.2f} GB",
            f"{(found['peak'] - found['start']) * 1e6 / rows:.2f} GB",
            f"{found['seconds']:.1f} | {found['cpu']:.1f}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def measure(rows: int, columns: int, rounds: int) -> dict[str, float]:
    """GB before, of the rows, and at the peak; seconds of the fit."""
    start = _peak()
    table = dataset(rows, columns)
    names = [name for name in table.columns if name.startswith("feature_")]
    config = Ranker(rounds=rounds, early_stopping=rounds)
    began, spent = time.perf_counter(), time.process_time()
    fit(table, names, config, Labels(), seed=1)
    return {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - spent,
        "start": start,
        "table": table.estimated_size() / 1e9,
        "peak": _peak(),
    }


def dataset(rows: int, columns: int) -> pl.DataFrame:
    """Lists of `LISTED` in `SLICES` days, whose clicks depend on a few of the columns."""
    draw = np.random.default_rng(3)
    number = np.arange(rows)
    day = number * SLICES // rows
    told = {
        f"feature_{name}": pl.Series(draw.standard_normal(rows, dtype=np.float32)) for name in range(columns)
    }
    drive = sum(told[f"feature_{name}"].to_numpy() for name in range(4))
    chance = CLICKS * np.exp(0.5 * drive - 0.5)
    start = datetime(2026, 1, 5, tzinfo=UTC)
    return pl.DataFrame(told).with_columns(
        pl.Series("slice", day).replace_strict(
            range(SLICES), [f"{start + timedelta(n):%Y-%m-%d}" for n in range(SLICES)]
        ),
        pl.Series("impression_id", number // LISTED).cast(pl.String),
        pl.Series("item_id", number % 997).cast(pl.String),
        pl.Series("position", number % LISTED + 1, dtype=pl.Int32),
        pl.Series("label", (draw.random(rows) < chance).astype(np.float32)),
    )


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="*", default=[250_000, 500_000, 1_000_000])
    parser.add_argument("--columns", type=int, default=231)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.rows[0], given.columns, given.rounds)))
    else:
        main(given)
