"""Measure features and state of one busy slice by number of user buckets, in one process and on a cluster.

`python tests/benchmarks/scale.py [--rows 4000000] [--buckets 1 4 16] [--ray ADDRESS]` writes seeded logs of two days
(`feature_world.py`) into a temporary folder and runs the second day on the state of the first. Each case runs in its
own process. Prints Markdown tables: rows/s, skew, peak memory, and growth at fixed rows per bucket; with `--ray` (an
address, or `local`) also on a cluster, by tasks of one core and one thread. One bucket means a single pass. Peak
memory is that of the largest process that ran tasks; CPU seconds are of all of them. To run it in parts: `--step
world --folder F`, then `--step slice --folder F --buckets N [--ray ADDRESS]`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import polars as pl
from feature_columns import project as columns
from feature_world import DAY, PRODUCT, START, write_world

from features.behaviour import lookup_and_update
from features.config.project import Project
from features.schemas import ItemVectors
from features.state import OWN, SliceEvents, counters, is_global, names, restore
from pipelines.compute.bucketed import Work, in_buckets, make
from pipelines.compute.engine import Cluster, Engine
from pipelines.compute.scratch import Scratch
from pipelines.lake import SLICE, STATE, Lake

BOTH = frozenset({"features", STATE})
FIRST, SECOND = "2026-01-05", "2026-01-06"
HOT = 0.25
"""Share of all candidates that are one hot item."""
PREPARED = 16
"""Buckets for the first day."""


def main(options: argparse.Namespace) -> None:
    """Run all cases and print the tables."""
    print(f"{options.rows:,} candidates per slice, one item is {HOT:.0%}\n")
    print(
        "| buckets | engine | seconds | relative | CPU seconds | rows/s | peak memory | users max/mean | scratch |"
    )
    print("|---:|---|---:|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        _run("world", Path(name), options)
        single = 0.0
        for buckets in options.buckets:
            for engine in ["", *([options.ray] if options.ray and buckets > 1 else [])]:
                result = _run("slice", Path(name), options, buckets=buckets, ray=engine)
                single = single or result["seconds"]
                _print(options.rows, buckets, "Ray" if engine else "embedded", result, single)
    print(f"\n{options.rows_a_bucket:,} candidates per bucket\n")
    print("| candidates | buckets | seconds | CPU seconds | rows/s | peak memory |")
    print("|---:|---:|---:|---:|---:|---:|")
    for buckets in options.growth:
        rows = buckets * options.rows_a_bucket
        with tempfile.TemporaryDirectory() as name:
            _run("world", Path(name), options, rows=rows)
            result = _run("slice", Path(name), options, buckets=buckets, ray="")
        cells = f"{result['seconds']:.1f} | {result['cpu']:.1f} | {rows / result['seconds']:,.0f}"
        cells += f" | {result['gigabytes']:.2f} GB"
        print(f"| {rows:,} | {buckets} | {cells} |", flush=True)


def _print(rows: int, buckets: int, engine: str, result: dict[str, Any], single: float) -> None:
    cells = [
        f"{buckets} | {engine} | {result['seconds']:.1f} | {result['seconds'] / single:.2f} × | {result['cpu']:.1f}",
        f"{rows / result['seconds']:,.0f} | {result['gigabytes']:.2f} GB",
    ]
    if buckets > 1:
        cells += [f"{result['users']:.2f} | {result['megabytes']:,.0f} MB"]
    print(f"| {' | '.join(cells)} |", flush=True)


def _run(step: str, folder: Path, options: argparse.Namespace, **more: object) -> dict[str, Any]:
    """Run one step in its own process, to measure its peak memory."""
    values = {"folder": folder, "rows": options.rows, "threads": options.threads} | more
    arguments = [f"--{name}={value}" for name, value in values.items()]
    environment = os.environ | {"POLARS_MAX_THREADS": str(options.threads)}
    command = [sys.executable, __file__, "--step", step, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _project(options: argparse.Namespace, buckets: int) -> Project:
    return Project.model_validate(columns().model_dump() | {"scale": {"buckets": buckets}})


def _world(options: argparse.Namespace) -> dict[str, Any]:
    """Write two days' events to a lake, and the state after the first, in buckets to save memory."""
    write_world(options.folder, 2 * options.rows, 2, peers=False)
    lake, declared = Lake(f"{options.folder}/lake"), _project(options, PREPARED)
    for day, slice in enumerate((FIRST, SECOND)):
        files = {name: options.folder / f"{name}-{day:03d}.parquet" for name in PRODUCT}
        tables = {name: pl.read_parquet(file) for name, file in files.items()}
        tables["impressions"] = tables["impressions"].with_columns(_heated())
        for name, table in tables.items():
            lake.write(name, slice, table)
        lake.write("item_vectors", slice, ItemVectors.create_empty())
    scratch = Scratch(f"{options.folder}/scratch")
    make(Work(declared, lake, scratch, FIRST, frozenset({STATE})), Engine())
    return {}


def _heated() -> pl.Expr:
    """Replace a quarter of the candidates, by position, by one item, which may repeat within an impression."""
    item, position = (pl.element().struct.field(name) for name in ("item_id", "position"))
    heated = pl.when(position % round(1 / HOT) == 0).then(pl.lit("i0")).otherwise(item)
    return pl.col("candidates").list.eval(pl.struct(item_id=heated, position=position))


def _slice(options: argparse.Namespace) -> dict[str, Any]:
    """Run the second day, in a single pass or in buckets."""
    lake, declared = Lake(f"{options.folder}/lake"), _project(options, options.buckets[0])
    engine: Engine = Cluster("" if options.ray == "local" else options.ray) if options.ray else Engine()
    watched = Watched(engine)
    if options.ray:
        engine.map(abs, [1])  # connects
    _cut_state(lake, declared)
    began, spent = time.perf_counter(), time.process_time()
    if options.buckets[0] == 1:
        _single_pass(lake, declared)
    else:
        make(Work(declared, lake, Scratch(f"{options.folder}/scratch"), SECOND, BOTH), cast(Engine, watched))
    seconds, spent = time.perf_counter() - began, time.process_time() - spent
    weights = watched.usage or [Usage(spent, _peak())]
    cpu = spent if not options.ray else spent + sum(weight.cpu for weight in weights)
    return {"seconds": seconds, "cpu": cpu, "gigabytes": max(w.peak for w in weights) / 1e6, **watched.result}


def _cut_state(lake: Lake, declared: Project) -> None:
    """Split the state before the slice into buckets, as the previous slice would have written it."""
    own = [grain for grain, counter in counters(declared.behaviour).items() if not is_global(counter)]
    for name in (*own, *OWN):
        table, buckets = f"{STATE}/{name}", declared.scale.buckets
        parts = enumerate(in_buckets(lake.read(table, [FIRST]), "user_id", buckets))
        lake.publish(table, FIRST, [lake.draft(table, FIRST, part, n, buckets) for n, part in parts])


def _single_pass(lake: Lake, declared: Project) -> None:
    """Do what the asset does with one bucket."""
    events = SliceEvents(**{name: lake.read(name, [SECOND]).drop(SLICE) for name in PRODUCT})
    before = {name: lake.read(f"{STATE}/{name}", [FIRST]).drop(SLICE) for name in names(declared.behaviour)}
    state, vectors = restore(START + DAY, before, declared.behaviour), lake.read("item_vectors").drop(SLICE)
    features, after = lookup_and_update(state, events, START + 2 * DAY, vectors)
    lake.write("features", SECOND, features)
    for name, table in after.tables().items():
        lake.write(f"{STATE}/{name}", SECOND, table)


class Usage(NamedTuple):
    """Resources that a task used."""

    cpu: float
    """CPU seconds of all threads."""
    peak: int
    """Peak memory of its process so far, in KB."""


def _measured(function: Callable[[Any], Any], task: Any) -> tuple[Any, Usage]:
    before = time.process_time()
    result = function(task)
    return result, Usage(time.process_time() - before, _peak())


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Watched:
    """An engine that measures its tasks and the scratch folder; prints the time of each step to stderr."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.result: dict[str, Any] = {}
        self.usage: list[Usage] = []

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> list[Any]:
        """Map as the engine does; put the skew of the buckets and the size of the scratch folder into `result`."""
        if isinstance(function, partial) and isinstance(function.args[0], Work):
            self._look(function.args[0], function.func.__name__)
        began = time.perf_counter()
        done = self._engine.map(partial(_measured, function), tasks)
        weights = [weight for _, weight in done]
        self.usage += weights
        name = function.func.__name__ if isinstance(function, partial) else function.__name__
        seconds, cpu = time.perf_counter() - began, sum(weight.cpu for weight in weights)
        print(f"{name}: {seconds:.2f} s, {cpu:.2f} CPU seconds in {len(tasks)} tasks", file=sys.stderr)
        return [result for result, _ in done]

    def _look(self, work: Work, step: str) -> None:
        folder = Path(work.scratch.root)
        if step == "advance_bucket":
            users = [_rows(folder / "lookups" / str(bucket)) for bucket in range(work.buckets)]
            written = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            self.result |= {"users": _skew(users), "megabytes": written / 1e6}


def _rows(file: Path) -> int:
    return int(pl.scan_ipc(file).select(pl.len()).collect().item())


def _skew(rows: list[int]) -> float:
    return max(rows) * len(rows) / sum(rows)


_STEPS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {"world": _world, "slice": _slice}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=4_000_000, help="candidates of the slice")
    parser.add_argument("--buckets", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--ray", default="", help="address of a cluster, or `local`")
    parser.add_argument("--growth", type=int, nargs="*", default=[2, 4, 8], help="buckets of fixed size")
    parser.add_argument("--rows-a-bucket", type=int, default=125_000)
    parser.add_argument("--threads", type=int, default=2)
    for name, kind in {"step": str, "folder": Path}.items():
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(_STEPS[options.step](options)))
    else:
        main(options)
