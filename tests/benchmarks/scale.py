"""What buckets of people and a cluster cost and bring: the features and the state of one busy slice.

`python tests/benchmarks/scale.py [--rows 4000000] [--buckets 1 4 16] [--ray ADDRESS]` writes seeded logs of two days
(`feature_world.py`) into a temporary folder and makes the second, the first being what is remembered. Each way works
in a process of its own. Prints Markdown tables: rows/s, skew, peak memory, and growth at fixed rows a bucket; with
`--ray` (an address, or `local`) the same by tasks on a cluster, each of one core and one thread. One bucket is one go.
Peak memory is that of the greatest process in which tasks ran; CPU seconds are of all of them. For runs in pieces:
`--step world --folder F`, then `--step slice --folder F --buckets N [--ray ADDRESS]`, as often as wanted.
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
from pipelines.compute.engine import Cluster, Embedded, Engine
from pipelines.compute.scratch import Scratch
from pipelines.lake import SLICE, STATE, Lake

BOTH = frozenset({"features", STATE})
FIRST, SECOND = "2026-01-05", "2026-01-06"
HOT = 0.25
"""Share of all candidates that one item is made."""
PREPARED = 16
"""Buckets in which the day before is made."""


def main(asked: argparse.Namespace) -> None:
    """Run all, print the tables."""
    print(f"{asked.rows:,} candidates a slice, of which one item is {HOT:.0%}\n")
    print(
        "| buckets | engine | seconds | of one go | CPU seconds | rows/s | peak memory | users max/mean | scratch |"
    )
    print("|---:|---|---:|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        _run("world", Path(name), asked)
        one_go = 0.0
        for buckets in asked.buckets:
            for engine in ["", *([asked.ray] if asked.ray and buckets > 1 else [])]:
                found = _run("slice", Path(name), asked, buckets=buckets, ray=engine)
                one_go = one_go or found["seconds"]
                _print(asked.rows, buckets, "Ray" if engine else "embedded", found, one_go)
    print(f"\n{asked.rows_a_bucket:,} candidates a bucket\n")
    print("| candidates | buckets | seconds | CPU seconds | rows/s | peak memory |")
    print("|---:|---:|---:|---:|---:|---:|")
    for buckets in asked.growth:
        rows = buckets * asked.rows_a_bucket
        with tempfile.TemporaryDirectory() as name:
            _run("world", Path(name), asked, rows=rows)
            found = _run("slice", Path(name), asked, buckets=buckets, ray="")
        told = f"{found['seconds']:.1f} | {found['cpu']:.1f} | {rows / found['seconds']:,.0f}"
        told += f" | {found['gigabytes']:.2f} GB"
        print(f"| {rows:,} | {buckets} | {told} |", flush=True)


def _print(rows: int, buckets: int, engine: str, found: dict[str, Any], one_go: float) -> None:
    cells = [
        f"{buckets} | {engine} | {found['seconds']:.1f} | {found['seconds'] / one_go:.2f} × | {found['cpu']:.1f}",
        f"{rows / found['seconds']:,.0f} | {found['gigabytes']:.2f} GB",
    ]
    if buckets > 1:
        cells += [f"{found['users']:.2f} | {found['megabytes']:,.0f} MB"]
    print(f"| {' | '.join(cells)} |", flush=True)


def _run(what: str, folder: Path, asked: argparse.Namespace, **more: object) -> dict[str, Any]:
    """One step in a process of its own, whose peak memory is then its own."""
    options = {"folder": folder, "rows": asked.rows, "threads": asked.threads} | more
    told = [f"--{name}={value}" for name, value in options.items()]
    environment = os.environ | {"POLARS_MAX_THREADS": str(asked.threads)}
    command = [sys.executable, __file__, "--step", what, *told]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _project(asked: argparse.Namespace, buckets: int) -> Project:
    return Project.model_validate(columns().model_dump() | {"scale": {"buckets": buckets}})


def _world(asked: argparse.Namespace) -> dict[str, Any]:
    """Two days' events in a lake, and the state after the first, in buckets: one go would need the memory."""
    write_world(asked.folder, 2 * asked.rows, 2, peers=False)
    lake, declared = Lake(f"{asked.folder}/lake"), _project(asked, PREPARED)
    for day, slice in enumerate((FIRST, SECOND)):
        files = {name: asked.folder / f"{name}-{day:03d}.parquet" for name in PRODUCT}
        tables = {name: pl.read_parquet(file) for name, file in files.items()}
        tables["impressions"] = tables["impressions"].with_columns(_heated())
        for name, table in tables.items():
            lake.write(name, slice, table)
        lake.write("item_vectors", slice, ItemVectors.create_empty())
    scratch = Scratch(f"{asked.folder}/scratch")
    make(Work(declared, lake, scratch, FIRST, frozenset({STATE})), Embedded())
    return {}


def _heated() -> pl.Expr:
    """Candidates, of which a quarter, by position, are one item: more than once in a list, as no log has it."""
    item, position = (pl.element().struct.field(name) for name in ("item_id", "position"))
    heated = pl.when(position % round(1 / HOT) == 0).then(pl.lit("i0")).otherwise(item)
    return pl.col("candidates").list.eval(pl.struct(item_id=heated, position=position))


def _slice(asked: argparse.Namespace) -> dict[str, Any]:
    """The second day, in one go or in buckets."""
    lake, declared = Lake(f"{asked.folder}/lake"), _project(asked, asked.buckets[0])
    engine: Engine = Cluster("" if asked.ray == "local" else asked.ray) if asked.ray else Embedded()
    watched = Watched(engine)
    if asked.ray:
        engine.map(abs, [1])  # connects
    _cut_state(lake, declared)
    began, spent = time.perf_counter(), time.process_time()
    if asked.buckets[0] == 1:
        _in_one_go(lake, declared)
    else:
        make(Work(declared, lake, Scratch(f"{asked.folder}/scratch"), SECOND, BOTH), cast(Engine, watched))
    seconds, spent = time.perf_counter() - began, time.process_time() - spent
    weights = watched.weights or [Weight(spent, _peak())]
    cpu = spent if not asked.ray else spent + sum(weight.cpu for weight in weights)
    return {"seconds": seconds, "cpu": cpu, "gigabytes": max(w.peak for w in weights) / 1e6, **watched.found}


def _cut_state(lake: Lake, declared: Project) -> None:
    """The state before the slice in as many buckets, as the slice before would have left it."""
    own = [grain for grain, counter in counters(declared).items() if not is_global(counter)]
    for name in (*own, *OWN):
        place, buckets = f"{STATE}/{name}", declared.scale.buckets
        parts = enumerate(in_buckets(lake.read(place, [FIRST]), "user_id", buckets))
        lake.publish(place, FIRST, [lake.draft(place, FIRST, part, n, buckets) for n, part in parts])


def _in_one_go(lake: Lake, declared: Project) -> None:
    """What the asset does with one bucket."""
    events = SliceEvents(**{name: lake.read(name, [SECOND]).drop(SLICE) for name in PRODUCT})
    before = {name: lake.read(f"{STATE}/{name}", [FIRST]).drop(SLICE) for name in names(declared)}
    state, vectors = restore(START + DAY, before, declared), lake.read("item_vectors").drop(SLICE)
    features, after = lookup_and_update(state, events, START + 2 * DAY, declared, vectors)
    lake.write("features", SECOND, features)
    for name, table in after.tables().items():
        lake.write(f"{STATE}/{name}", SECOND, table)


class Weight(NamedTuple):
    """What a task took where it ran."""

    cpu: float
    """Seconds, of all threads."""
    peak: int
    """KB of its process so far."""


def _weighed(function: Callable[[Any], Any], task: Any) -> tuple[Any, Weight]:
    before = time.process_time()
    result = function(task)
    return result, Weight(time.process_time() - before, _peak())


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Watched:
    """An engine that weighs its tasks and looks at the scratch before each step; a step's time goes to stderr."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.found: dict[str, Any] = {}
        self.weights: list[Weight] = []

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> list[Any]:
        """As the engine; how even the buckets are, and what lies there in all, in `found`."""
        if isinstance(function, partial) and isinstance(function.args[0], Work):
            self._look(function.args[0], function.func.__name__)
        began = time.perf_counter()
        done = self._engine.map(partial(_weighed, function), tasks)
        weights = [weight for _, weight in done]
        self.weights += weights
        name = function.func.__name__ if isinstance(function, partial) else function.__name__
        seconds, cpu = time.perf_counter() - began, sum(weight.cpu for weight in weights)
        print(f"{name}: {seconds:.2f} s, {cpu:.2f} CPU seconds in {len(tasks)} tasks", file=sys.stderr)
        return [result for result, _ in done]

    def _look(self, work: Work, step: str) -> None:
        place = Path(work.scratch.root)
        if step == "advance_bucket":
            users = [_rows(place / "lookups" / str(bucket)) for bucket in range(work.buckets)]
            written = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
            self.found |= {"users": _skew(users), "megabytes": written / 1e6}


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
    given = parser.parse_args()
    if given.step:
        print(json.dumps(_STEPS[given.step](given)))
    else:
        main(given)
