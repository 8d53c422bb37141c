"""Moments: what is remembered at each instant, and what it says of each candidate."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from features.advance import advance
from features.behaviour import read_and_advance, read_features
from features.state import MomentState
from pipelines.deployment import STATE, Deployment
from pipelines.failures import steady
from pipelines.publish import publish
from pipelines.timetable import ONE_RUN, before

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
@steady
def moments(
    context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]
) -> Iterator[dg.MaterializeResult[None]]:
    """Read each slice's events from the state before it, and advance the state by them: one layout for both."""
    project = deployment.project
    chosen = {key.to_user_string() for key in context.selected_asset_keys}
    for slice in context.partition_keys:
        before_it, events = deployment.state_before(slice), deployment.events(slice)
        _, end = project.slices.window(slice)
        if chosen == {"moment_state"}:
            _keep(context, deployment, slice, advance(before_it, events, end, project))
        elif chosen == {"features"}:
            _publish(
                context,
                deployment,
                slice,
                read_features(before_it, events, project, deployment.vectors(slice)),
            )
        else:
            table, state = read_and_advance(before_it, events, end, project, deployment.vectors(slice))
            _publish(context, deployment, slice, table)
            _keep(context, deployment, slice, state)
    for name in ("moment_state", "features"):  # to Dagster, the second depends on the first
        if name in chosen:
            yield dg.MaterializeResult(asset_key=name)


def _keep(context: dg.AssetExecutionContext, deployment: Deployment, slice: str, state: MomentState) -> None:
    tables = state.tables()
    for name, table in tables.items():
        deployment.lake.write(f"{STATE}/{name}", slice, table)
    sizes = {f"{name}_rows": table.height for name, table in tables.items()}
    kept = sum(table.estimated_size("mb") for table in tables.values())
    context.add_asset_metadata(
        {**sizes, "megabytes": round(kept, 2)}, asset_key="moment_state", partition_key=slice
    )
    deployment.tell(f"moment_state {slice}: {sum(sizes.values()):,} rows, {kept:.1f} MB")


def _publish(
    context: dg.AssetExecutionContext, deployment: Deployment, slice: str, table: pl.DataFrame
) -> None:
    publish(context, deployment, "features", slice, table, {"features": table.width - 2})
