"""How an asset shows what it made: a slice's rows to the lake, and metadata a person wants to see."""

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
"""Inches of a figure that fits Dagster's dialog where its window is 1,440 pixels wide."""
_SHOWN = 5
_PERSONAL = ("user_id", "session_id", "impression_id", "interaction_id", "raw")
"""Columns that tell of whom a row is: what an asset's page shows stays in Dagster's own records."""


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
    """Attach to a slice's partition what `publish` does, where it is written already; `head`: its first rows."""
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
    """The first rows as a Markdown table, at most twelve columns wide, without what tells of whom they are."""
    columns = [name for name in frame.columns if name not in _PERSONAL][:12]
    rows = [[_cell(value) for value in row] for row in frame.select(columns).head(_SHOWN).iter_rows()]
    return table(columns, rows)


def picture(png: bytes) -> dg.MarkdownMetadataValue:
    """A PNG that the asset's page draws."""
    return dg.MetadataValue.md(f"![](data:image/png;base64,{base64.b64encode(png).decode()})")


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:60]
