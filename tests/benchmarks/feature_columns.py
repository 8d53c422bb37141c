"""How fast features are read, beside the same columns from DuckDB and pandas, and whether a day goes on costing a day.

`python tests/benchmarks/feature_columns.py [--rows 1000000 10000000] [--slices 5 50]` writes seeded logs into a
temporary folder and prints Markdown tables. Ours goes day by day through `lookup_and_update`, as the product
does; the others (`feature_columns.sql`, `feature_columns_pandas.py`) take the whole log at once. Each way works in a
process of its own, reads the same Parquet files, makes every column and adds it up; on a smaller log all columns
are first compared cell by cell. Sizes above `--peers-to` are ours alone.
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
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from feature_world import DAY, PEERS, PRODUCT, START, write_world

from features.behaviour import lookup_and_update
from features.catalogue import catalogue
from features.config.project import Project
from features.schemas import ItemVectors
from features.state import MomentState, SliceEvents, start

ROWS_A_DAY = 1_000_000
"""Of the greatest logs, which have as many days as it takes; smaller ones have ten."""
CHECKED = 100_000
TOLERANCE = 1e-5
"""Greatest difference of a cell, beside 1 + its size: columns are Float32."""
_SELECT = ("*", "!text_*", "!*_words*", "!item_*_count", "!*_z", "item_c*_z", "item_tags_ctr_1d_z", "item_age_hours_z",
           "item_length_z", "user_*_ctr_*_z", "user_*_lift_1d_z", "pair_exposures_z")  # fmt: skip


def project(ttl: str = "10d") -> Project:
    """Two half-lives, two attributes, a number; every column but those of texts and most z-forms."""
    return Project.model_validate(
        {
            "name": "features",
            "source": {"format": "newsroom"},
            "slices": {"start": START},
            "items": {"numeric": ["length"], "categorical": ["category", "tags"]},
            "features": {"half_lives": ["1d", "none"], "select": _SELECT, "ttl": ttl},
        }
    )


def main(asked: argparse.Namespace) -> int:
    """Run all, print the tables; the number of columns or sums that differ."""
    families = catalogue(project()).group_by("family", maintain_order=True).len().iter_rows()
    print(
        f"{catalogue(project()).height} columns: " + ", ".join(f"{count} {name}" for name, count in families)
    )
    with tempfile.TemporaryDirectory() as name:
        differing = _check(Path(name), asked) if asked.rows else 0
    if asked.rows:
        print("\n| rows | way | seconds | CPU s | rows/s | ours is | growth exponent | peak memory |")
        print("|---:|---|---:|---:|---:|---:|---:|---:|")
    before: dict[str, tuple[int, float]] = {}
    for rows in sorted(asked.rows):
        differing += _compare(rows, asked, before)
    if asked.slices:
        with tempfile.TemporaryDirectory() as name:
            _run(
                "world",
                Path(name),
                asked,
                rows=asked.rows_a_slice * max(asked.slices),
                days=max(asked.slices),
            )
            _print_slices(_run("slices", Path(name), asked), asked)
    return differing


def _check(folder: Path, asked: argparse.Namespace) -> int:
    """Every cell of every way against ours, on a small log; the number of columns that differ."""
    _run("world", folder, asked, rows=CHECKED, days=10)
    kept = {way: folder / f"{way}.kept" for way in _WAYS}
    for way, path in kept.items():
        _run(way, folder, asked, kept=path)
    keys = ["impression_id", "item_id"]
    read = {way: pl.read_parquet(path).sort(keys) for way, path in kept.items()}
    differing = 0
    for way, found in list(read.items())[1:]:
        names = [name for name in found.columns if name not in keys]
        same = [name for name in names if _equal(read["ours"][name], found[name])]
        print(f"{way}: {len(same)} of {len(names)} columns equal ours in all of {found.height:,} rows")
        print("".join(f"- {name} differs\n" for name in names if name not in same), end="")
        differing += len(names) - len(same) + (not read["ours"].select(keys).equals(found.select(keys)))
    return differing


def _equal(ours: pl.Series, theirs: pl.Series) -> bool:
    apart = (ours - theirs).abs() / (1 + ours.abs())
    return bool((ours.is_null() == theirs.is_null()).all() and (apart.fill_null(0) <= TOLERANCE).all())


def _compare(rows: int, asked: argparse.Namespace, before: dict[str, tuple[int, float]]) -> int:
    """A line of the table for each way; the number of sums that differ from ours."""
    differing, ours = 0, dict[str, Any]()
    with tempfile.TemporaryDirectory() as name:
        _run("world", Path(name), asked, rows=rows, days=max(10, rows // ROWS_A_DAY))
        for way in _WAYS if rows <= asked.peers_to else ("ours",):
            if rows > {"pandas": asked.pandas_to}.get(way, rows):
                print(
                    f"| {rows:,} | {way} | not run: it holds the whole log, 2.6 GB a million rows | | | | | |"
                )
                continue
            tries = [_run(way, Path(name), asked) for _ in range(asked.best_of)]
            found = min(tries, key=lambda told: told["seconds"])
            ours = ours or found
            # Sums of Float32 columns: the z-scores of a list add up to nothing but rounding.
            apart = np.abs(np.subtract(found["sums"], ours["sums"]))
            differing += int((apart > TOLERANCE * (np.abs(ours["sums"]) + rows)).sum())
            size, seconds = before.get(way, (rows, found["seconds"]))
            exponent = (
                f"{math.log(found['seconds'] / seconds) / math.log(rows / size):.2f}" if size < rows else ""
            )
            before[way] = rows, found["seconds"]
            print(
                f"| {rows:,} | {way} | {found['seconds']:.1f} | {found['cpu']:.1f} | {rows / found['seconds']:,.0f} "
                f"| {found['seconds'] / ours['seconds']:.2f} × as fast | {exponent} | {found['gigabytes']:.2f} GB |",
                flush=True,
            )
    return differing


def _print_slices(found: dict[str, Any], asked: argparse.Namespace) -> None:
    print(f"\n{asked.rows_a_slice:,} rows a slice, features.ttl = {asked.ttl}\n")
    print("| slice | seconds (median of 3) | rows of the state | MB | of which |\n|---:|---:|---:|---:|---|")
    for slice_ in asked.slices:
        seconds = np.median(found["seconds_a_slice"][max(slice_ - 3, 0) : slice_])
        sizes = found["sizes"][slice_ - 1]
        most = sorted(sizes, key=lambda name: -sizes[name][1])[:4]
        told = ", ".join(f"{name} {sizes[name][0]:,} rows {sizes[name][1] / 1e6:.1f} MB" for name in most)
        rows, size = (sum(column) for column in zip(*sizes.values(), strict=True))
        print(f"| {slice_} | {seconds:.2f} | {rows:,} | {size / 1e6:.1f} | {told} |")


def _run(what: str, folder: Path, asked: argparse.Namespace, **more: object) -> dict[str, Any]:
    """One step in a process of its own, whose peak memory is then its own."""
    options = {
        "folder": folder,
        "threads": asked.threads,
        "memory": asked.memory,
        "forget-after": asked.ttl,
    }
    told = [f"--{name}={value}" for name, value in (options | more).items()]
    environment = os.environ | {"POLARS_MAX_THREADS": str(asked.threads)}
    command = [sys.executable, __file__, "--step", what, *told]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _step(asked: argparse.Namespace) -> dict[str, Any]:
    if asked.step == "world":
        write_world(asked.folder, asked.rows[0], asked.days)
        return {}
    if asked.step == "slices":
        return _slices(asked)
    began, names = time.perf_counter(), catalogue(project())["name"].to_list()
    sums = _WAYS[asked.step](asked, names)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": time.perf_counter() - began,
        "cpu": used.ru_utime + used.ru_stime,
        "gigabytes": used.ru_maxrss / 1e6,
        "sums": sums,
    }


def _ours(asked: argparse.Namespace, names: list[str]) -> list[float]:
    sums, frames = np.zeros(len(names)), []
    for frame, _ in _days(asked.folder, project(asked.ttl)):
        sums += frame.select(pl.col(names).cast(pl.Float64).sum()).row(0)
        frames += [frame] if asked.kept else []
        del frame  # Not held beside the next day's.
    if asked.kept:
        pl.concat(frames).write_parquet(asked.kept)
    return list(sums.tolist())


def _days(folder: Path, declared: Project) -> Iterator[tuple[pl.DataFrame, MomentState]]:
    """Features of each day, and the state after it."""
    state = start(declared)
    for day in range(len(list(folder.glob("impressions-*.parquet")))):
        part = SliceEvents(*(pl.read_parquet(folder / f"{name}-{day:03d}.parquet") for name in PRODUCT))
        until, nothing = START + (day + 1) * DAY, ItemVectors.create_empty()
        frame, state = lookup_and_update(state, part, until, declared, nothing, keep=False)
        yield frame, state
        del frame, part


def _slices(asked: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each slice; and rows and bytes of each table of the state after it."""
    seconds, sizes, began = [], [], time.perf_counter()
    for _, state in _days(asked.folder, project(asked.ttl)):
        seconds.append(time.perf_counter() - began)
        sizes.append({n: (table.height, table.estimated_size()) for n, table in state.tables().items()})
        began = time.perf_counter()
    return {"seconds_a_slice": seconds, "sizes": sizes}


def _in_duckdb(asked: argparse.Namespace, names: list[str]) -> list[float]:
    import duckdb

    connection = duckdb.connect()
    connection.execute(
        f"SET threads = {asked.threads}; SET memory_limit = '{asked.memory}'; SET TimeZone = 'UTC'"
    )
    connection.execute(
        f"SET temp_directory = '{asked.folder / 'spilled'}'; SET preserve_insertion_order = false"
    )
    for name in (*PEERS, "items", "interactions"):
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM '{asked.folder}/{name}-*.parquet'")
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    for tag, copies in {"attribute": project().items.categorical, "compared": _compared(names)}.items():
        # The script's parts between `each` and `end` come one after the other: text, part, text, part, text.
        parts = re.split(rf"/\* each {tag} \*/(.*?)/\* end \*/", script, flags=re.DOTALL)
        parts[1::2] = ["".join(part.replace("NAME", name) for name in copies) for part in parts[1::2]]
        script = "".join(parts)
    connection.execute(script)
    if asked.kept:
        cells = ", ".join(f"{name}::FLOAT AS {name}" for name in names)
        connection.execute(
            f"COPY (SELECT impression_id, item_id, {cells} FROM features) TO '{asked.kept}' (FORMAT parquet)"
        )
    totals = ", ".join(f"sum({name}::FLOAT::DOUBLE)" for name in names)
    return list(connection.execute(f"SELECT {totals} FROM features").fetchone() or ())


def _in_pandas(asked: argparse.Namespace, names: list[str]) -> list[float]:
    import pandas as pd
    from feature_columns_pandas import add_relative, in_pandas

    found = add_relative(in_pandas(asked.folder, pd.Timestamp(START)), _compared(names))
    if asked.kept:
        found[["impression_id", "item_id"]].join(found[names].astype("float32")).to_parquet(asked.kept)
    return [float(found[name].astype("float32").astype(float).sum()) for name in names]


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
        "--rows", type=int, nargs="*", default=[1_000_000, 10_000_000], help="candidates in all"
    )
    parser.add_argument("--peers-to", type=int, default=10_000_000, help="larger logs are ours alone")
    parser.add_argument(
        "--pandas-to", type=int, default=1_000_000, help="larger logs are not run in pandas: 2.6 GB a million"
    )
    parser.add_argument(
        "--slices", type=int, nargs="*", default=[5, 50], help="slices after which to look at the state"
    )
    parser.add_argument("--rows-a-slice", type=int, default=50_000)
    parser.add_argument("--forget-after", default="10d", help="features.ttl")
    parser.add_argument(
        "--best-of", type=int, default=1, help="runs of each way, of which the fastest counts"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", default="12GB", help="DuckDB's memory_limit")
    for name, kind in {"step": str, "folder": Path, "kept": Path, "days": int}.items():
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        print(json.dumps(_step(given)))
    else:
        sys.exit(1 if main(given) else 0)
