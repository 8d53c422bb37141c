"""Measure memory and time of one process that fits a ranker, by number of candidates.

`python tests/benchmarks/ranker_memory.py [--rows 250000 500000 1000000] [--columns 231] [--rounds 20]` fits seeded
rows, in impressions of 20 with one click in twelve candidates, each size in its own process, and prints a Markdown
table. All rounds are grown, on two folds in parallel and then on all rows: time grows with rounds, memory does not.
Memory that the process uses before it has rows is reported separately.
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


def main(options: argparse.Namespace) -> None:
    """Run each size and print the table."""
    print(f"{options.columns} columns, {options.rounds} rounds, default threads\n")
    print("| candidates | rows only | peak memory | per million, without start | seconds | CPU seconds |")
    print("|---:|---:|---:|---:|---:|---:|")
    for rows in options.rows:
        arguments = [f"--{name}={getattr(options, name)}" for name in ("columns", "rounds")]
        command = [sys.executable, __file__, "--one", f"--rows={rows}", *arguments]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        result = json.loads(done.stdout.splitlines()[-1])
        cells = [
            f"{rows:,} | {result['table']:.2f} GB | {result['peak']:.2f} GB",
            f"{(result['peak'] - result['start']) * 1e6 / rows:.2f} GB",
            f"{result['seconds']:.1f} | {result['cpu']:.1f}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def measure(rows: int, columns: int, rounds: int) -> dict[str, float]:
    """Return GB before the fit, of the rows and at the peak; and seconds of the fit."""
    start = _peak()
    table = dataset(rows, columns)
    names = [name for name in table.columns if name.startswith("feature_")]
    config = Ranker(num_iterations=rounds, early_stopping_round=rounds)
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
    """Impressions of `LISTED` candidates over `SLICES` days, whose clicks depend on four of the columns."""
    draw = np.random.default_rng(3)
    number = np.arange(rows)
    day = number * SLICES // rows
    features = {
        f"feature_{name}": pl.Series(draw.standard_normal(rows, dtype=np.float32)) for name in range(columns)
    }
    drive = sum(features[f"feature_{name}"].to_numpy() for name in range(4))
    chance = CLICKS * np.exp(0.5 * drive - 0.5)
    start = datetime(2026, 1, 5, tzinfo=UTC)
    return pl.DataFrame(features).with_columns(
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
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.rows[0], options.columns, options.rounds)))
    else:
        main(options)
