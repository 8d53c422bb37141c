"""Topics: click rate by attribute value, and which values left their usual band."""

import dagster as dg
import polars as pl

from pipelines.asset_steps import StepRun, preview, step
from pipelines.lake import STATE
from pipelines.monitoring.anomalies import attribute_rates
from pipelines.monitoring.anomalies import topic_shifts as detect_shifts
from pipelines.triggers.partitions import before


@step("moments", {"polars", "deltalake"}, ["candidates", "moment_state", before("topic_shifts")])
def topic_shifts(run: StepRun) -> None:
    """Click rate of each attribute value, the band expected from the trailing slices, and whether the rate left it."""
    lake, checks = run.deployment.lake, run.deployment.project.checks
    for slice in run.track():
        rates = attribute_rates(
            lake.read("candidates", [slice], ["item_id", "clicked"]),
            lake.read(f"{STATE}/items", [slice], ["item_id", "attributes"]),
        )
        previous = [key for key in lake.slices("topic_shifts") if key < slice][-checks.trailing :]
        history = lake.read("topic_shifts", previous) if previous else rates.clear()
        table = detect_shifts(
            rates, history, checks.attribute_anomaly, checks.min_history, checks.min_exposures
        )
        shifted = table.filter("shifted").sort((pl.col("rate") - pl.col("expected")).abs(), descending=True)
        run.publish("topic_shifts", slice, table,
            {"shifted": shifted.height, "largest": dg.MetadataValue.md(preview(shifted))},
        )  # fmt: skip
