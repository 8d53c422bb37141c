"""Moments: what is remembered at each instant, and what it says of each candidate."""

import dagster as dg

from features.advance import advance
from features.behaviour import read_features
from pipelines.deployment import STATE, Deployment
from pipelines.publish import publish
from pipelines.timetable import ONE_RUN, before

_EVENTS = ["items", "impressions", "interactions"]
_POLARS = {"polars", "deltalake"}


@dg.asset(
    group_name="moments", kinds=_POLARS, deps=[*_EVENTS, before("moment_state")], backfill_policy=ONE_RUN
)
def moment_state(context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """Everything remembered at the slice's end: decayed counters, item versions, each user's recent moments."""
    for slice in context.partition_keys:
        _, end = deployment.project.slices.window(slice)
        state = advance(deployment.state_before(slice), deployment.events(slice), end, deployment.project)
        tables = state.tables()
        for name, table in tables.items():
            deployment.lake.write(f"{STATE}/{name}", slice, table)
        sizes = {f"{name}_rows": table.height for name, table in tables.items()}
        kept = sum(table.estimated_size("mb") for table in tables.values())
        context.add_asset_metadata({**sizes, "megabytes": round(kept, 2)}, partition_key=slice)
        deployment.tell(f"moment_state {slice}: {sum(sizes.values()):,} rows, {kept:.1f} MB")


@dg.asset(
    group_name="moments",
    kinds=_POLARS,
    deps=[*_EVENTS, "item_vectors", before("moment_state")],
    backfill_policy=ONE_RUN,
)
def features(context: dg.AssetExecutionContext, deployment: dg.ResourceParam[Deployment]) -> None:
    """What the moment state said of each candidate just before its list was shown."""
    for slice in context.partition_keys:
        table = read_features(
            deployment.state_before(slice),
            deployment.events(slice),
            deployment.project,
            deployment.vectors(slice),
        )
        publish(context, deployment, "features", slice, table, {"features": table.width - 2})
