"""The report's tables, read back from the lake."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from models.report.page import page
from models.report.tables import ReportData
from pipelines.deployment import Deployment
from pipelines.reporting import volume
from pipelines.settings.settings import load

SLICES = ("2026-01-05", "2026-01-06")


def test_a_log_in_which_nothing_was_shown_has_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOMENTRANK_HOME", str(tmp_path))
    made = Deployment(load().open_project(), load())
    for table in ("items", "impressions", "interactions", "rejects"):
        for slice in SLICES:
            made.lake.write(table, slice, pl.DataFrame({"n": []}, schema={"n": pl.Int64}))
    for slice in SLICES:
        made.lake.write("candidates", slice, pl.DataFrame(schema={"clicked": pl.Boolean}))
    made.lake.write("items", SLICES[1], pl.DataFrame({"n": [1, 2]}))

    found = volume(made.lake, SLICES[1])

    assert found["items"].to_list() == [0, 2]
    assert found["candidates"].to_list() == [0, 0]
    assert found["click_rate"].to_list() == [None, None]
    report = ReportData("toy", datetime(2026, 1, 7, tzinfo=UTC), SLICES, volume=found)
    assert "0 lists." in page(report)
