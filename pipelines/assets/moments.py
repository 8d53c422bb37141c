"""Moments: what is remembered at each instant, and what it says of each candidate."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from features.state import MomentState
from pipelines import chain
from pipelines.compute.bucketed import Made, Work, make
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
            "Everything remembered at the slice's end: decayed counters, item versions, each user's recent moments.",
        ),
        _spec(
            "features",
            "What the moment state said of each candidate just before its list was shown.",
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
    """Read each slice's events from the state before it, and advance the state by them: one layout for both."""
    project = deployment.project
    chosen = {key.path[-1] for key in context.selected_asset_keys}
    for slice in deployment.progress.track(context.partition_keys):
        if project.scale.buckets > 1:
            _show(context, deployment, slice, make(_work(deployment, slice, chosen), deployment.engine))
            continue
        before_it, events = deployment.state_before(slice), deployment.events(slice)
        _, end = project.slices.window(slice)
        if chosen == {"moment_state"}:
            _keep(context, deployment, slice, chain.advance(before_it, events, end, project))
        elif chosen == {"features"}:
            _publish(
                context,
                deployment,
                slice,
                chain.read_features(before_it, events, project, deployment.vectors(slice)),
            )
        else:
            table, state = chain.lookup_and_update(before_it, events, end, project, deployment.vectors(slice))
            _publish(context, deployment, slice, table)
            _keep(context, deployment, slice, state)
    for name in ("moment_state", "features"):  # to Dagster, the second depends on the first
        if name in chosen:
            yield dg.MaterializeResult(asset_key=asset_key(project, name))


def _keep(context: dg.AssetExecutionContext, deployment: Deployment, slice: str, state: MomentState) -> None:
    tables = state.tables()
    for name, table in tables.items():
        deployment.lake.write(f"{STATE}/{name}", slice, table)
    kept = sum(table.estimated_size("mb") for table in tables.values())
    _show_state(context, deployment, slice, {name: table.height for name, table in tables.items()}, kept)


def _show_state(
    context: dg.AssetExecutionContext, deployment: Deployment, slice: str, rows: dict[str, int], kept: float
) -> None:
    sizes = {f"{name}_rows": count for name, count in rows.items()}
    context.add_asset_metadata(
        {**sizes, "megabytes": round(kept, 2)},
        asset_key=asset_key(deployment.project, "moment_state"),
        partition_key=slice,
    )
    deployment.progress.made(slice, f"{sum(sizes.values()):,} rows of state, {kept:.1f} MB")


def _work(deployment: Deployment, slice: str, wanted: set[str]) -> Work:
    scratch = Scratch(
        deployment.scratch("moments", slice.replace(":", "")), deployment.settings.storage_options
    )
    return Work(deployment.project, deployment.lake, scratch, slice, frozenset(wanted))


def _show(
    context: dg.AssetExecutionContext, deployment: Deployment, slice: str, made: dict[str, Made]
) -> None:
    """What `_publish` and `_keep` show, of tables that workers wrote; megabytes are those of the files."""
    if table := made.pop("features", None):
        head = deployment.lake.scan_slice("features", slice).head().collect()
        show(context, deployment, "features", slice, head, table.written, {"features": head.width - 2})
    if made:
        rows = {name.removeprefix(f"{STATE}/"): one.written.rows for name, one in made.items()}
        _show_state(context, deployment, slice, rows, sum(one.size for one in made.values()) / 2**20)


def _publish(
    context: dg.AssetExecutionContext, deployment: Deployment, slice: str, table: pl.DataFrame
) -> None:
    publish(context, deployment, "features", slice, table, {"features": table.width - 2})
