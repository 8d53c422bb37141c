"""Write an asset's rows to the lake and attach metadata to its partition in Dagster."""

import base64
from typing import Any

import dagster as dg
import polars as pl

from models.markdown import table
from pipelines.dagster_names import asset_key
from pipelines.deployment import Deployment
from pipelines.lake import WriteResult
from pipelines.table_schemas import described

WIDTH = 6.6
"""Width of a figure in inches that fits Dagster's dialog in a window of 1,440 pixels."""
_SHOWN = 5
_PERSONAL = ("user_id", "session_id", "impression_id", "interaction_id", "raw")
"""Columns that identify a user. Previews leave them out, because Dagster keeps metadata."""


def publish(
    context: dg.AssetExecutionContext,
    deployment: Deployment,
    table: str,
    slice: str,
    frame: pl.DataFrame,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Replace one slice of a table and attach row count, columns, a preview and `metadata` to its partition."""
    show(context, deployment, table, slice, frame, deployment.lake.write(table, slice, frame), metadata)


def show(
    context: dg.AssetExecutionContext,
    deployment: Deployment,
    table: str,
    slice: str,
    head: pl.DataFrame,
    written: WriteResult,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Attach the metadata of `publish` to a slice that is already written; `head`: its first rows."""
    context.add_asset_metadata(
        {
            "dagster/partition_row_count": written.rows,
            "dagster/column_schema": described(table, head.schema, deployment.project),
            "preview": dg.MetadataValue.md(preview(head)),
            "table_version": written.version,
            **(metadata or {}),
        },
        asset_key=asset_key(deployment.project, table),
        partition_key=slice,
    )
    deployment.progress.wrote(table, slice, written.rows)


def preview(frame: pl.DataFrame) -> str:
    """The first rows as a Markdown table of at most twelve columns, without those that identify users."""
    columns = [name for name in frame.columns if name not in _PERSONAL][:12]
    rows = [[_cell(value) for value in row] for row in frame.select(columns).head(_SHOWN).iter_rows()]
    return table(columns, rows)


def picture(png: bytes) -> dg.MarkdownMetadataValue:
    """A PNG as metadata, shown on the asset's page."""
    return dg.MetadataValue.md(f"![](data:image/png;base64,{base64.b64encode(png).decode()})")


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:60]
