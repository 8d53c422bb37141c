"""Instants as databases and libraries write them."""

from datetime import UTC, datetime

import polars as pl
import pytest

from features.config.project import Project
from features.errors import ProjectError
from features.sources.instants import read_instants

NOON = datetime(2026, 1, 6, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-06T12:00:00Z",
        "2026-01-06 12:00:00+00",  # Postgres
        "2026-01-06 13:30:00+01:30",
        "2026-01-06 13:30:00+0130",
        "2026-01-06 07:00:00.000-05",
        "2026-01-06 12:00:00 UTC",  # BigQuery
        "2026-01-06 12:00:00.000000 UTC",
        "2026-01-06T12:00:00 GMT",
        "2026-01-06 12:00:00 Z",
        "2026-01-06 12:00:00+00:00",  # pandas, Python
        "2026-01-06 12:00:00.000000000",
        "2026-01-06 14:00:00 +0200",  # Ruby, git
        "2026-01-06 14:00+02",
        "2026-01-06 12:00:00,000",
        "2026/01/06 12:00",
        "  2026-01-06  12:00 ",
    ],
)
def test_a_time_is_read_as_databases_and_python_write_it(text: str) -> None:
    assert read_instants(pl.Series([text, None, "soon"])).to_list() == [NOON, None, None]


@pytest.mark.parametrize(
    "text", ["13/01/2026", "01.06.2026 12:00", "12:00", "2026-13-01", "2026-01-06 25:00"]
)
def test_an_ambiguous_time_is_not_guessed(text: str) -> None:
    assert read_instants(pl.Series([text])).to_list() == [None]


@pytest.mark.parametrize(
    ("time_format", "text"),
    [
        ("%d/%m/%Y %H:%M", "06/01/2026 12:00"),
        ("%m/%d/%Y %I:%M %p", "01/06/2026 12:00 PM"),
        ("%d.%m.%Y %H:%M:%S %z", "06.01.2026 14:00:00 +0200"),
        ("%Y%m%d%H%M", "202601061200"),
        ("%Y%m%d%H%M", 202601061200),
    ],
)
def test_a_declared_format_is_tried_first(time_format: str, text: str | int) -> None:
    assert read_instants(pl.Series([text]), time_format).to_list() == [NOON]


def test_texts_that_do_not_fit_the_declared_format_are_read_without_it() -> None:
    texts = pl.Series(["2026-01-06 12:00", "06/13/2026 12:00"])
    assert read_instants(texts, "%d/%m/%Y %H:%M").to_list() == [NOON, None]


def test_nan_and_infinity_are_no_instants() -> None:
    assert read_instants(pl.Series([float("nan"), float("inf"), 1e400])).to_list() == [None] * 3


def test_an_unusable_format_is_an_error_that_names_the_key() -> None:
    with pytest.raises(ProjectError, match=r"source\.tables\.time_format"):
        read_instants(pl.Series(["2026010612"]), "%Y%m%d%H")


def test_a_format_without_a_year_is_refused() -> None:
    tables = {"shape": "ratings", "time_format": "DD/MM"}
    source = {"format": "tables", "path": "log", "tables": tables}
    with pytest.raises(ValueError, match="strptime"):
        Project.model_validate({"name": "toy", "source": source, "slices": {"start": NOON}})
