"""The steps of a run: how `pipelines/assets/` declares them, and what the body of one can do."""

import base64
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class StepRun:
    """A step that is being run for one project."""

    context: dg.AssetExecutionContext
    deployment: Deployment
    asset: str
    """The step's asset, or the first of several."""

    @property
    def id(self) -> str:
        """The id of the Dagster run."""
        return self.context.run.run_id

    @property
    def slices(self) -> Sequence[str]:
        """The slices to materialise, in order."""
        keys: Sequence[str] = self.context.partition_keys
        return keys

    @property
    def outputs(self) -> set[str]:
        """The assets to materialise."""
        return {key.path[-1] for key in self.context.selected_asset_keys}

    def track(self) -> Iterator[str]:
        """The slices to materialise, with the progress shown."""
        return self.deployment.progress.track(self.slices)

    def describe(self, slice: str, metadata: dict[str, Any], asset: str | None = None) -> None:
        """Attach metadata to a slice of the step's asset, or of another one."""
        key = asset_key(self.deployment.project.name, asset or self.asset)
        self.context.add_asset_metadata(metadata, asset_key=key, partition_key=slice)

    def publish(
        self, table: str, slice: str, frame: pl.DataFrame, metadata: dict[str, Any] | None = None
    ) -> None:
        """Replace one slice of a table and attach row count, columns, a preview and `metadata`."""
        self.show(table, slice, frame, self.deployment.lake.write(table, slice, frame), metadata)

    def show(
        self,
        table: str,
        slice: str,
        head: pl.DataFrame,
        written: WriteResult,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Attach the metadata of `publish` to a slice that is already written; `head`: its first rows."""
        values = {
            "dagster/partition_row_count": written.rows,
            "dagster/column_schema": described(table, head.schema, self.deployment.project.behaviour),
            "preview": dg.MetadataValue.md(preview(head)),
            "table_version": written.version,
            **(metadata or {}),
        }
        self.describe(slice, values, table)
        self.deployment.progress.wrote(table, slice, written.rows)


Body = Callable[[StepRun], None]


@dataclass(frozen=True)
class Step:
    """One or several assets that a function materialises. Names have no project yet."""

    name: str
    body: Body
    specs: Sequence[dg.AssetSpec]
    pool: str
    can_subset: bool = False


def step(
    group: str, kinds: set[str], deps: Collection[str | dg.AssetDep] = (), pool: str = "writer"
) -> Callable[[Body], Step]:
    """Declare a function as the step of an asset; its name and its docstring are the asset's."""

    def declare(body: Body) -> Step:
        spec = dg.AssetSpec(body.__name__, deps=deps, description=body.__doc__, group_name=group, kinds=kinds)
        return Step(body.__name__, body, [spec], pool)

    return declare


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
