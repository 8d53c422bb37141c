"""The report's tables, read from the lake."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from models.report.page import page
from models.report.report_data import ReportData
from pipelines.deployment import Deployment
from pipelines.reporting import _exposure, volume
from pipelines.settings.settings import load

SLICES = ("2026-01-05", "2026-01-06")


def test_a_log_without_impressions_has_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOMENTRANK_HOME", str(tmp_path))
    deployment = Deployment(load().open_project(), load())
    for table in ("items", "impressions", "interactions", "rejects"):
        for slice in SLICES:
            deployment.lake.write(table, slice, pl.DataFrame({"n": []}, schema={"n": pl.Int64}))
    for slice in SLICES:
        deployment.lake.write("candidates", slice, pl.DataFrame(schema={"clicked": pl.Boolean}))
    deployment.lake.write("items", SLICES[1], pl.DataFrame({"n": [1, 2]}))

    rows = volume(deployment.lake, SLICES[1])

    assert rows["items"].to_list() == [0, 2]
    assert rows["candidates"].to_list() == [0, 0]
    assert rows["click_rate"].to_list() == [None, None]
    report = ReportData("toy", datetime(2026, 1, 7, tzinfo=UTC), SLICES, volume=rows)
    assert "0 lists." in page(report)


def test_exposure_has_the_columns_that_the_report_draws() -> None:
    counts = {"places": [3.0, 1.0], "candidates": [4.0, 4.0], "clicks": [0.0, 2.0]}
    stored = pl.DataFrame({"scorer": "full", "attribute": "topic", "value": ["sport", "news"], **counts})
    rows = _exposure(pl.concat([stored, stored.with_columns(scorer=pl.lit("random"))])).sort("value")
    assert rows["share_of_positions"].to_list() == [0.25, 0.75]
    assert rows["share_of_candidates"].to_list() == [0.5, 0.5]
    assert rows["share_of_clicks"].to_list() == [1.0, 0.0]
