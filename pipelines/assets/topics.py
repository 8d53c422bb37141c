"""Topics: click rate, predicted rate and share of each attribute value, and which of them left their bands."""

import dagster as dg
import polars as pl

from features.schemas import ItemVectors, TopicShifts
from models.report.report_plots import topics_figure
from pipelines.asset_steps import WIDTH, StepRun, picture, preview, step
from pipelines.lake import STATE
from pipelines.monitoring.attribute_shifts import (
    attribute_figures,
    find_shifts,
    read_history,
    read_predictions,
    with_typical,
)
from pipelines.triggers.partitions import before


@step(
    "moments",
    {"polars", "deltalake"},
    ["candidates", "interest_scores", "item_vectors", "moment_state", before("topic_shifts")],
)
def topic_shifts(run: StepRun) -> None:
    """Click rate, predicted rate and share of each attribute value, and which of them left their expected bands."""
    deployment, lake, checks = run.deployment, run.deployment.lake, run.deployment.project.checks
    for slice in run.track():
        candidates = read_predictions(lake, slice)
        items = lake.read(f"{STATE}/items", [slice], ["item_id", "attributes"])
        history = read_history(lake, slice, checks.trailing)
        table = find_shifts(attribute_figures(candidates, items), history, checks, slice)
        vectors = deployment.slices.vectors(slice) if table["shifted"].any() else ItemVectors.create_empty()
        table = TopicShifts.validate(with_typical(table, candidates, items, vectors))
        series = pl.concat([history, table.with_columns(slice=pl.lit(slice))], how="diagonal")
        first = deployment.project.items.categorical[:1]
        run.publish(
            "topic_shifts", slice, table,
            {
                "shifted": int(table["shifted"].sum()),
                "largest": dg.MetadataValue.md(preview(table.filter("shifted"))),
                "series": picture(topics_figure(series.filter(pl.col("attribute").is_in(first)), WIDTH)),
            },
        )  # fmt: skip
