"""Measure feature reading beside DuckDB and pandas, and whether the cost of a slice stays constant.

`python tests/benchmarks/feature_columns.py [--rows 1000000 10000000] [--slices 5 50]` writes seeded logs into a
temporary folder and prints Markdown tables. MomentRank goes day by day through `lookup_and_update`; the peers
(`feature_columns.sql`, `feature_columns_pandas.py`) process the whole log at once. Each runs in its own process, reads
the same Parquet files, computes every column and sums it; first, all columns are compared cell by cell on a small log.
Peers skip sizes above `--peers-to`.
"""

import argparse
import json
import math
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from feature_world import DAY, PEERS, PRODUCT, START, write_world

from features.behaviour import lookup_and_update
from features.catalogue import catalogue
from features.config.project import Project
from features.schemas import Impressions, Interactions, Items, ItemVectors
from features.state import MomentState, SliceEvents, start

ROWS_A_DAY = 1_000_000
"""Rows per day of large logs; logs of up to ten days' rows have ten days."""
CHECKED = 100_000
TOLERANCE = 1e-5
"""Largest difference of two cells, relative to 1 + |cell|: columns are Float32."""
_SELECT = ("*", "!text_*", "!*_words*", "!item_*_count", "!*_z", "item_c*_z", "item_tags_ctr_1d_z", "item_age_hours_z",
           "item_length_z", "user_*_ctr_*_z", "user_*_lift_1d_z", "pair_exposures_z")  # fmt: skip


def project(ttl: str = "10d") -> Project:
    """Two half-lives, two attributes, one number; all columns except texts and most z-scores."""
    return Project.model_validate(
        {
            "name": "features",
            "source": {"format": "newsroom"},
            "slices": {"start": START},
            "items": {"numeric": ["length"], "categorical": ["category", "tags"]},
            "features": {"half_lives": ["1d", "none"], "select": _SELECT, "ttl": ttl},
        }
    )


def main(options: argparse.Namespace) -> int:
    """Run all, print the tables; return the number of columns or sums that differ."""
    families = catalogue(project().behaviour).group_by("family", maintain_order=True).len().iter_rows()
    print(
        f"{catalogue(project().behaviour).height} columns: "
        + ", ".join(f"{count} {name}" for name, count in families)
    )
    with tempfile.TemporaryDirectory() as name:
        differing = _check(Path(name), options) if options.rows else 0
    if options.rows:
        print(
            "\n| rows | way | seconds | CPU s | of it start-up | rows/s | ours is | and warm | growth exponent "
            "| peak memory |"
        )
        print("|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    before: dict[str, tuple[int, float]] = {}
    for rows in sorted(options.rows):
        differing += _compare(rows, options, before)
    if options.slices:
        with tempfile.TemporaryDirectory() as name:
            _run(
                "world",
                Path(name),
                options,
                rows=options.rows_a_slice * max(options.slices),
                days=max(options.slices),
            )
            _print_slices(_run("slices", Path(name), options), options)
    return differing


def _check(folder: Path, options: argparse.Namespace) -> int:
    """Compare every cell with ours on a small log; return the number of columns that differ."""
    _run("world", folder, options, rows=CHECKED, days=10)
    outputs = {way: folder / f"{way}.parquet" for way in _WAYS}
    for way, path in outputs.items():
        _run(way, folder, options, output=path)
    keys = ["impression_id", "item_id"]
    tables = {way: pl.read_parquet(path).sort(keys) for way, path in outputs.items()}
    differing = 0
    for way, table in list(tables.items())[1:]:
        names = [name for name in table.columns if name not in keys]
        same = [name for name in names if _equal(tables["ours"][name], table[name])]
        print(f"{way}: {len(same)} of {len(names)} columns equal ours in all of {table.height:,} rows")
        print("".join(f"- {name} differs\n" for name in names if name not in same), end="")
        differing += len(names) - len(same) + (not tables["ours"].select(keys).equals(table.select(keys)))
    return differing


def _equal(ours: pl.Series, theirs: pl.Series) -> bool:
    difference = (ours - theirs).abs() / (1 + ours.abs())
    return bool((ours.is_null() == theirs.is_null()).all() and (difference.fill_null(0) <= TOLERANCE).all())


def _compare(rows: int, options: argparse.Namespace, before: dict[str, tuple[int, float]]) -> int:
    """Print one table row for each way; return the number of sums that differ from ours."""
    differing, ours = 0, dict[str, Any]()
    with tempfile.TemporaryDirectory() as name:
        _run("world", Path(name), options, rows=rows, days=max(10, rows // ROWS_A_DAY))
        for way in _WAYS if rows <= options.peers_to else ("ours",):
            if rows > {"pandas": options.pandas_to}.get(way, rows):
                print(
                    f"| {rows:,} | {way} | not run: needs 2.6 GB of memory per million rows | | | | | | | |"
                )
                continue
            tries = [_run(way, Path(name), options) for _ in range(options.best_of)]
            fastest = min(tries, key=lambda result: result["cpu"])
            ours = ours or fastest
            # The z-scores of an impression sum to rounding errors only, so the tolerance grows with rows.
            difference = np.abs(np.subtract(fastest["sums"], ours["sums"]))
            differing += int((difference > TOLERANCE * (np.abs(ours["sums"]) + rows)).sum())
            seconds, cpu, warm = (fastest[name] for name in ("seconds", "cpu", "warm"))
            size, less = before.get(way, (rows, warm))
            exponent = f"{math.log(warm / less) / math.log(rows / size):.2f}" if size < rows else ""
            before[way] = rows, warm
            print(
                f"| {rows:,} | {way} | {seconds:.1f} | {cpu:.1f} | {cpu - warm:.1f} | {rows / seconds:,.0f} "
                f"| {cpu / ours['cpu']:.2f} × as fast | {warm / ours['warm']:.2f} × | {exponent} "
                f"| {fastest['gigabytes']:.2f} GB |",
                flush=True,
            )
    return differing


def _print_slices(result: dict[str, Any], options: argparse.Namespace) -> None:
    print(f"\n{options.rows_a_slice:,} rows per slice, features.ttl = {options.ttl}\n")
    print("| slice | seconds (median of 3) | state rows | MB | largest tables |\n|---:|---:|---:|---:|---|")
    for slice_ in options.slices:
        seconds = np.median(result["seconds_a_slice"][max(slice_ - 3, 0) : slice_])
        sizes = result["sizes"][slice_ - 1]
        largest = sorted(sizes, key=lambda name: -sizes[name][1])[:4]
        tables = ", ".join(
            f"{name} {sizes[name][0]:,} rows {sizes[name][1] / 1e6:.1f} MB" for name in largest
        )
        rows, size = (sum(column) for column in zip(*sizes.values(), strict=True))
        print(f"| {slice_} | {seconds:.2f} | {rows:,} | {size / 1e6:.1f} | {tables} |")


def _run(step: str, folder: Path, options: argparse.Namespace, **more: object) -> dict[str, Any]:
    """Run one step in a separate process, to measure its peak memory."""
    values = {
        "folder": folder,
        "threads": options.threads,
        "memory": options.memory,
        "ttl": options.ttl,
    }
    arguments = [f"--{name}={value}" for name, value in (values | more).items()]
    environment = os.environ | {"POLARS_MAX_THREADS": str(options.threads)}
    command = [sys.executable, __file__, "--step", step, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _step(options: argparse.Namespace) -> dict[str, Any]:
    if options.step == "world":
        write_world(options.folder, options.rows[0], options.days)
        return {}
    if options.step == "slices":
        return _slices(options)
    names = catalogue(project().behaviour)["name"].to_list()
    _load(options.step)
    began, loaded = time.perf_counter(), time.process_time()
    sums = _WAYS[options.step](options, names)
    return {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time(),
        "warm": time.process_time() - loaded,
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "sums": sums,
    }


def _load(way: str) -> None:
    """Import a way's libraries and, for ours, load the cached kernels: its start-up is measured apart."""
    if way == "ours":
        empty = SliceEvents(*(schema.create_empty() for schema in (Items, Impressions, Interactions)))
        state = start(START, project().behaviour)
        lookup_and_update(state, empty, START + DAY, ItemVectors.create_empty())
    else:
        import_module({"DuckDB": "duckdb", "pandas": "feature_columns_pandas"}[way])


def _ours(options: argparse.Namespace, names: list[str]) -> list[float]:
    sums, frames = np.zeros(len(names)), []
    for frame, _ in _days(options.folder, project(options.ttl)):
        sums += frame.select(pl.col(names).cast(pl.Float64).sum()).row(0)
        frames += [frame] if options.output else []
        del frame  # Free it before the next day.
    if options.output:
        pl.concat(frames).write_parquet(options.output)
    return list(sums.tolist())


def _days(folder: Path, declared: Project) -> Iterator[tuple[pl.DataFrame, MomentState]]:
    """Yield the features of each day and the state after it."""
    state = start(declared.slices.start, declared.behaviour)
    for day in range(len(list(folder.glob("impressions-*.parquet")))):
        part = SliceEvents(*(pl.read_parquet(folder / f"{name}-{day:03d}.parquet") for name in PRODUCT))
        until, no_vectors = START + (day + 1) * DAY, ItemVectors.create_empty()
        frame, state = lookup_and_update(state, part, until, no_vectors)
        yield frame, state
        del frame, part


def _slices(options: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds of each slice, and rows and bytes of each state table after it."""
    seconds, sizes, began = [], [], time.perf_counter()
    for _, state in _days(options.folder, project(options.ttl)):
        seconds.append(time.perf_counter() - began)
        sizes.append({n: (table.height, table.estimated_size()) for n, table in state.tables().items()})
        began = time.perf_counter()
    return {"seconds_a_slice": seconds, "sizes": sizes}


def _in_duckdb(options: argparse.Namespace, names: list[str]) -> list[float]:
    import duckdb

    connection = duckdb.connect()
    connection.execute(
        f"SET threads = {options.threads}; SET memory_limit = '{options.memory}'; SET TimeZone = 'UTC'"
    )
    connection.execute(
        f"SET temp_directory = '{options.folder / 'spilled'}'; SET preserve_insertion_order = false"
    )
    for name in (*PEERS, "items", "interactions"):
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM '{options.folder}/{name}-*.parquet'")
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    for tag, copies in {"attribute": project().items.categorical, "compared": _compared(names)}.items():
        # Repeat the parts between `each` and `end`; split returns text, part, text, part, text.
        parts = re.split(rf"/\* each {tag} \*/(.*?)/\* end \*/", script, flags=re.DOTALL)
        parts[1::2] = ["".join(part.replace("NAME", name) for name in copies) for part in parts[1::2]]
        script = "".join(parts)
    connection.execute(script)
    if options.output:
        cells = ", ".join(f"{name}::FLOAT AS {name}" for name in names)
        connection.execute(
            f"COPY (SELECT impression_id, item_id, {cells} FROM features) TO '{options.output}' (FORMAT parquet)"
        )
    totals = ", ".join(f"sum({name}::FLOAT::DOUBLE)" for name in names)
    return list(connection.execute(f"SELECT {totals} FROM features").fetchone() or ())


def _in_pandas(options: argparse.Namespace, names: list[str]) -> list[float]:
    import pandas as pd
    from feature_columns_pandas import add_relative, in_pandas

    table = add_relative(in_pandas(options.folder, pd.Timestamp(START)), _compared(names))
    if options.output:
        table[["impression_id", "item_id"]].join(table[names].astype("float32")).to_parquet(options.output)
    return [float(table[name].astype("float32").astype(float).sum()) for name in names]


def _compared(names: list[str]) -> list[str]:
    return [name.removesuffix("_z") for name in names if name.endswith("_z")]


_WAYS: dict[str, Callable[[argparse.Namespace, list[str]], list[float]]] = {
    "ours": _ours,
    "DuckDB": _in_duckdb,
    "pandas": _in_pandas,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", type=int, nargs="*", default=[1_000_000, 10_000_000], help="candidates in total"
    )
    parser.add_argument("--peers-to", type=int, default=10_000_000, help="peers skip larger logs")
    parser.add_argument(
        "--pandas-to",
        type=int,
        default=1_000_000,
        help="pandas skips larger logs: it needs 2.6 GB per million rows",
    )
    parser.add_argument(
        "--slices", type=int, nargs="*", default=[5, 50], help="slices after which to measure the state"
    )
    parser.add_argument("--rows-a-slice", type=int, default=50_000)
    parser.add_argument("--ttl", default="10d", help="features.ttl")
    parser.add_argument("--best-of", type=int, default=1, help="runs of each way; the fastest counts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", default="12GB", help="DuckDB's memory_limit")
    for name, kind in {"step": str, "folder": Path, "output": Path, "days": int}.items():
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(_step(arguments)))
    else:
        sys.exit(1 if main(arguments) else 0)
