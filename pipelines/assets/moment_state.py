"""Moments: the moment state after each slice, and each candidate's features as of its impression."""

from functools import partial

import dagster as dg
import polars as pl

from features.state import MomentState
from pipelines import chain
from pipelines.asset_steps import Step, StepRun
from pipelines.compute.bucketed import Published, Work, make
from pipelines.lake import STATE
from pipelines.triggers.partitions import before


def moments(run: StepRun) -> None:
    """Look up each slice's features in the state before it, and advance the state by its events, in one pass."""
    deployment, project, outputs = run.deployment, run.deployment.project, run.outputs
    for slice in run.track():
        if project.scale.buckets > 1:
            scratch = deployment.scratch("moments", slice.replace(":", ""))
            work = Work(project, deployment.lake, scratch, slice, frozenset(outputs))
            _show_published(run, slice, make(work, deployment.engine))
            continue
        state_before, events = deployment.slices.state_before(slice), deployment.slices.events(slice)
        _, end = project.slices.window(slice)
        vectors = partial(
            deployment.slices.vectors_for, state_before, events.impressions, slice, deployment.settings.cache
        )
        if outputs == {"moment_state"}:
            _write_state(run, slice, chain.advance(state_before, events, end))
        elif outputs == {"features"}:
            table = chain.read_features(state_before, events, vectors())
            _publish_features(run, slice, table)
        else:
            table, state = chain.lookup_and_update(state_before, events, end, vectors())
            _publish_features(run, slice, table)
            _write_state(run, slice, state)


_DEPS: list[str | dg.AssetDep] = ["items", "impressions", "interactions", before("moment_state")]
_DESCRIPTIONS = {  # in this order: for Dagster, features depend on the state
    "moment_state": "The state at the slice's end: decayed counters, item versions, each user's recent moments.",
    "features": "Each candidate's features, from the moment state as of its impression.",
}
STEP = Step(
    "moments",
    moments,
    [
        dg.AssetSpec(
            name,
            deps=[*_DEPS, "item_vectors"] if name == "features" else _DEPS,
            description=text,
            group_name="moments",
            kinds={"polars", "deltalake"},
        )
        for name, text in _DESCRIPTIONS.items()
    ],
    "writer",
    can_subset=True,
)


def _write_state(run: StepRun, slice: str, state: MomentState) -> None:
    tables = state.tables()
    for name, table in tables.items():
        run.deployment.lake.write(f"{STATE}/{name}", slice, table)
    megabytes = sum(table.estimated_size("mb") for table in tables.values())
    _show_state(run, slice, {name: table.height for name, table in tables.items()}, megabytes)


def _show_state(run: StepRun, slice: str, rows: dict[str, int], megabytes: float) -> None:
    sizes = {f"{name}_rows": count for name, count in rows.items()}
    run.describe(slice, {**sizes, "megabytes": round(megabytes, 2)}, "moment_state")
    run.deployment.progress.made(slice, f"{sum(sizes.values()):,} rows of state, {megabytes:.1f} MB")


def _show_published(run: StepRun, slice: str, tables: dict[str, Published]) -> None:
    """Show tables that workers published as `_publish_features` and `_write_state` show theirs; sizes are of files."""
    if table := tables.pop("features", None):
        head = run.deployment.lake.scan_slice("features", slice).head().collect()
        run.show("features", slice, head, table.written, {"features": head.width - 2})
    if tables:
        rows = {name.removeprefix(f"{STATE}/"): table.written.rows for name, table in tables.items()}
        _show_state(run, slice, rows, sum(table.size for table in tables.values()) / 2**20)


def _publish_features(run: StepRun, slice: str, table: pl.DataFrame) -> None:
    run.publish("features", slice, table, {"features": table.width - 2})
