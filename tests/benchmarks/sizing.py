"""Measure disk, memory and CPU seconds, and how they grow with candidates, users and items.

`python tests/benchmarks/sizing.py [--candidates 50000] [--users 500] [--items 1000] [--models 500 2000]` writes
seeded logs of two days into a temporary folder and runs the second day through the pipeline's assets, each case in
its own process: a base case, then four times the candidates, ten times the users, and twenty times the items. Prints
Markdown tables: each case, the cost of a million more of each, extrapolated from the differences, and the state
tables. Then runs the interest model and the ranker with default settings over `--models` impressions a day.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

LISTED = 20
CLICKED = 0.1
"""Share of impressions with a click."""
START = datetime(2026, 1, 5, tzinfo=UTC)
DAYS = ("2026-01-05", "2026-01-06")
EVENTS = {"items", "impressions", "interactions", "candidates", "rejects"}
STATE = {"moment_state", "features"}
STEPS = {
    "events": EVENTS,
    "text vectors": {"item_vectors"},
    "state and features": STATE,
    "interest model": {"interest_model"},
    "interest scores": {"interest_scores"},
    "ranking dataset": {"ranking_dataset"},
    "ranker": {"ranker"},
}
"""The assets of a day, in order."""
GROUPS = {
    "events": tuple(EVENTS),
    "features": ("features",),
    "state": ("moment_state",),
}
"""Tables whose bytes are added up."""
WORDS = "river bridge council vote harbour storm team goal market price school strike film recipe winter road".split()  # noqa: SIM905
PROJECT = """\
name = "sizing"
[source]
format = "tables"
path = "log.parquet"
known_after = "1m"
[source.tables]
shape = "lists"
item = "shown"
clicked = "clicked"
items_path = "items.parquet"
[slices]
start = 2026-01-05T00:00:00Z
end = 2026-01-07T00:00:00Z
[items]
title = "title"
body = "body"
numeric = ["price"]
categorical = ["category", "tags"]
"""


def main(options: argparse.Namespace) -> None:
    """Run all cases and print the tables."""
    base = {"candidates": options.candidates, "users": options.users, "items": options.items}
    cases = {"": base, "candidates": base | {"candidates": 4 * options.candidates}}
    cases |= {"users": base | {"users": 10 * options.users}, "items": base | {"items": 20 * options.items}}
    print(
        "| candidates a day | users | items | CPU seconds a day | peak memory | events | features | state |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    results = {}
    for grown, sizes in cases.items():
        results[grown] = _run("state", sizes)
        sizes["users"] = int(results[grown]["users"])
        shown = " | ".join(f"{results[grown][name] / 1e6:.1f} MB" for name in ("events", "features", "state"))
        needs = f"{results[grown]['cpu']:.1f} | {results[grown]['peak'] / 1e9:.2f} GB"
        print(
            "| " + " | ".join(f"{size:,}" for size in sizes.values()) + f" | {needs} | {shown} |", flush=True
        )
    print("\n| a million more | CPU seconds a day | peak memory | events | features | state |")
    print("|---|---:|---:|---:|---:|---:|")
    for grown in ("candidates", "users", "items"):
        print(
            f"| {grown} | {_slopes(results[''], results[grown], cases[grown][grown] - base[grown])} |",
            flush=True,
        )
    print(
        "\n| table of the state | rows | MB on disk | MB in memory | bytes a row in memory |\n|---|---:|---:|---:|---:|"
    )
    for name, (rows, memory, disk) in results["users"]["tables"].items():
        print(
            f"| `{name}` | {rows:,} | {disk / 1e6:.2f} | {memory / 1e6:.1f} | {memory / max(rows, 1):,.0f} |"
        )
    if options.models:
        print(
            "\n| impressions a day | step | CPU seconds | peak memory so far |\n|---:|---|---:|---:|",
            flush=True,
        )
    for count in options.models:
        steps = _run("models", base | {"candidates": count * LISTED})
        for name, needs in steps.items():
            print(f"| {count:,} | {name} | {needs['cpu']:.1f} | {needs['peak'] / 1e9:.2f} GB |", flush=True)


def _slopes(base: dict[str, Any], more: dict[str, Any], count: int) -> str:
    """Return the growth of each figure per million; empty where it grew by less than a tenth."""
    cells = []
    for name, form, unit in (("cpu", "{:,.0f}", 1.0), ("peak", "{:,.1f} GB", 1e9), ("events", "{:,.0f} MB", 1e6),
                             ("features", "{:,.0f} MB", 1e6), ("state", "{:,.0f} MB", 1e6)):  # fmt: skip
        grown = more[name] - base[name]
        cells.append(form.format(grown / unit / count * 1e6) if grown > 0.1 * base[name] else "–")
    return " | ".join(cells)


def _run(step: str, sizes: dict[str, int]) -> dict[str, Any]:
    """Run one case in its own process and folder."""
    with tempfile.TemporaryDirectory() as name:
        environment = os.environ | {"MOMENTRANK_HOME": f"{name}/home", "DAGSTER_HOME": f"{name}/home/dagster"}
        options = [f"--{key}={value}" for key, value in sizes.items()]
        command = [sys.executable, __file__, "--step", step, "--folder", name, *options]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
        return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def _write_logs(folder: Path, candidates: int, users: int, items: int) -> None:
    """Write two days of impressions with evenly drawn users and items, and texts of 40 words."""
    draw = np.random.default_rng(7)
    words = np.array(WORDS)[draw.integers(0, len(WORDS), (items, 40))]
    pl.DataFrame(
        {
            "item_id": [f"item-{number}" for number in range(items)],
            "title": [" ".join(row[:8]) for row in words],
            "body": [" ".join(row[8:]) for row in words],
            "price": draw.lognormal(3, 1, items),
            "category": [f"category {number}" for number in draw.integers(0, 30, items)],
            "tags": [f"tag {a}|tag {b}" for a, b in draw.integers(0, 300, (items, 2))],
        }
    ).write_parquet(folder / "items.parquet")
    count = 2 * candidates // LISTED
    second = np.sort(draw.integers(0, 2 * 86_400 - 60, count))
    # Distinct within an impression: a start and steps below a tenth of the items.
    first, step = draw.integers(0, items, count), draw.integers(1, max(2, items // LISTED), count)
    shown = (first[:, None] + step[:, None] * np.arange(LISTED)) % items
    clicked = [[f"item-{row[pick]}"] if hit else [] for row, pick, hit in
               zip(shown, draw.integers(0, LISTED, count), draw.random(count) < CLICKED, strict=True)]  # fmt: skip
    pl.DataFrame(
        {
            "user_id": [f"user-{number}" for number in draw.integers(0, users, count)],
            "timestamp": [START + timedelta(seconds=int(one)) for one in second],
            "shown": [[f"item-{number}" for number in row] for row in shown],
            "clicked": pl.Series(clicked, dtype=pl.List(pl.String)),
        }
    ).write_parquet(folder / "log.parquet")
    (folder / "sizing.toml").write_text(PROJECT, encoding="utf-8")


def _state(folder: Path) -> dict[str, Any]:
    """Return CPU seconds of the second day's events, state and features; table bytes; peak memory; users."""
    run, deployment = _opened(folder)
    from features.schemas import ItemVectors

    for day in DAYS:
        deployment.lake.write("item_vectors", day, ItemVectors.create_empty())
    run(EVENTS | STATE, DAYS[0])
    cpu = run(EVENTS | STATE, DAYS[1])
    lake = Path(deployment.settings.lake) / "sizing"
    sizes = {name: sum(_bytes(lake / table) for table in tables) for name, tables in GROUPS.items()}
    users = pl.read_parquet(folder / "log.parquet", columns=["user_id"]).n_unique()
    state = sorted((lake / "moment_state").iterdir())
    tables = {table.name: (*_loaded(table), _bytes(table)) for table in state}
    return {"cpu": cpu, "peak": _peak(), "users": users, "tables": tables, **sizes}


def _models(folder: Path) -> dict[str, dict[str, float]]:
    """Return CPU seconds of each step of the second day, after the first has registered both models.

    Text vectors are those of the first day, when all items are new.
    """
    run, _ = _opened(folder)
    first = {step: run(assets, DAYS[0]) for step, assets in STEPS.items()}
    results = {step: {"cpu": run(assets, DAYS[1]), "peak": _peak()} for step, assets in STEPS.items()}
    results["text vectors"]["cpu"] = first["text vectors"]
    return results


def _opened(folder: Path) -> tuple[Any, Any]:
    """Return a function that runs assets over a slice and returns its CPU seconds, and the deployment."""
    import dagster as dg

    from pipelines.definitions import advance_job
    from pipelines.deployment import Deployment
    from pipelines.settings.settings import initialise_dagster, load, prepare
    from pipelines.triggers.partitions import range_tags

    settings = load().model_copy(update={"project": folder / "sizing.toml"})
    prepare(settings)
    initialise_dagster(settings)
    deployment = Deployment(settings.open_project(), settings)
    deployment.registry.prepare()
    job = advance_job(deployment)
    keys = job.asset_layer.executable_asset_keys

    def run(names: set[str], day: str) -> float:
        chosen = [key for key in keys if key.path[-1] in names]
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        with dg.DagsterInstance.get() as instance:
            began = time.process_time()
            job.execute_in_process(
                instance=instance, run_config=quiet, tags=range_tags(day, day), asset_selection=chosen
            )
            return time.process_time() - began

    return run, deployment


def _bytes(folder: Path) -> int:
    """Return the bytes of a table's files of the second day; for items, of all files."""
    days = DAYS if folder.name == "items" and folder.parent.name == "sizing" else DAYS[1:]
    return sum(path.stat().st_size for path in _files(folder) if any(day in str(path) for day in days))


def _loaded(folder: Path) -> tuple[int, int]:
    """Return the rows of a table's files of the second day, and their bytes in memory."""
    tables = [pl.read_parquet(path) for path in _files(folder) if DAYS[1] in str(path)]
    return sum(table.height for table in tables), round(sum(table.estimated_size() for table in tables))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*.parquet") if "_delta_log" not in path.parts)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--candidates", type=int, default=50_000, help="per day")
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--models", type=int, nargs="*", default=[500, 2000], help="impressions per day")
    for name, kind in {"step": str, "folder": Path}.items():
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        _write_logs(options.folder, options.candidates, options.users, options.items)
        print(json.dumps(_state(options.folder) if options.step == "state" else _models(options.folder)))
    else:
        main(options)
