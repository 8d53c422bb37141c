"""Moments: the moment state after each slice, and each candidate's features as of its impression."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from features.state import MomentState
from pipelines import chain
from pipelines.compute.bucketed import Published, Work, make
from pipelines.compute.scratch import Scratch
from pipelines.dagster_names import asset_key
from pipelines.deployment import Deployment
from pipelines.lake import STATE
from pipelines.publish import publish, show
from pipelines.retries import with_retries
from pipelines.triggers.partitions import ONE_RUN, before

_DEPS: list[str | dg.AssetDep] = ["items", "impressions", "interactions", before("moment_state")]


def _spec(name: str, description: str, *deps: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        name,
        deps=[*_DEPS, *deps],
        description=description,
        group_name="moments",
        kinds={"polars", "deltalake"},
    )


@dg.multi_asset(
    name="moments",
    specs=[
        _spec(
            "moment_state",
            "The state at the slice's end: decayed counters, item versions, each user's recent moments.",
        ),
        _spec(
            "features",
            "Each candidate's features, from the moment state as of its impression.",
            "item_vectors",
        ),
    ],
    can_subset=True,
    backfill_policy=ONE_RUN,
    pool="writer",
)
@with_retries
def moments(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> Iterator[dg.MaterializeResult[None]]:
    """Look up each slice's features in the state before it, and advance the state by its events, in one pass."""
    project = deployment.project
    outputs = {key.path[-1] for key in context.selected_asset_keys}
    for slice in deployment.progress.track(context.partition_keys):
        if project.scale.buckets > 1:
            path = deployment.scratch("moments", slice.replace(":", ""))
            scratch = Scratch(path, deployment.settings.storage_options)
            work = Work(project, deployment.lake, scratch, slice, frozenset(outputs))
            _show_published(context, deployment, slice, make(work, deployment.engine))
            continue
        state_before, events = deployment.state_before(slice), deployment.events(slice)
        _, end = project.slices.window(slice)
        if outputs == {"moment_state"}:
            _write_state(context, deployment, slice, chain.advance(state_before, events, end))
        elif outputs == {"features"}:
            _publish_features(
                context,
                deployment,
                slice,
                chain.read_features(state_before, events, deployment.vectors(slice)),
            )
        else:
            table, state = chain.lookup_and_update(state_before, events, end, deployment.vectors(slice))
            _publish_features(context, deployment, slice, table)
            _write_state(context, deployment, slice, state)
    for name in ("moment_state", "features"):  # in this order: for Dagster, features depend on the state
        if name in outputs:
            yield dg.MaterializeResult(asset_key=asset_key(project, name))


def _write_state(
    context: dg.AssetExecutionContext, deployment: Deployment, slice: str, state: MomentState
) -> None:
    tables = state.tables()
    for name, table in tables.items():
        deployment.lake.write(f"{STATE}/{name}", slice, table)
    megabytes = sum(table.estimated_size("mb") for table in tables.values())
    _show_state(context, deployment, slice, {name: table.height for name, table in tables.items()}, megabytes)


def _show_state(
    context: dg.AssetExecutionContext,
    deployment: Deployment,
    slice: str,
    rows: dict[str, int],
    megabytes: float,
) -> None:
    sizes = {f"{name}_rows": count for name, count in rows.items()}
    context.add_asset_metadata(
        {**sizes, "megabytes": round(megabytes, 2)},
        asset_key=asset_key(deployment.project, "moment_state"),
        partition_key=slice,
    )
    deployment.progress.made(slice, f"{sum(sizes.values()):,} rows of state, {megabytes:.1f} MB")


def _show_published(
    context: dg.AssetExecutionContext, deployment: Deployment, slice: str, tables: dict[str, Published]
) -> None:
    """Show tables that workers published as `_publish_features` and `_write_state` show theirs; sizes are of files."""
    if table := tables.pop("features", None):
        head = deployment.lake.scan_slice("features", slice).head().collect()
        show(context, deployment, "features", slice, head, table.written, {"features": head.width - 2})
    if tables:
        rows = {name.removeprefix(f"{STATE}/"): table.written.rows for name, table in tables.items()}
        _show_state(context, deployment, slice, rows, sum(table.size for table in tables.values()) / 2**20)


def _publish_features(
    context: dg.AssetExecutionContext, deployment: Deployment, slice: str, table: pl.DataFrame
) -> None:
    publish(context, deployment, "features", slice, table, {"features": table.width - 2})
