"""Each monitor passes a slice like those before it and fails an anomaly."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.config.project import Project
from features.schemas import TopicShifts
from pipelines.lake import STATE, Lake
from pipelines.monitoring.monitors import MONITORS, Finding, View, largest_difference, overdue_slices

EVALUATE = {f"{monitor.asset}.{monitor.name}": monitor.evaluate for monitor in MONITORS.values()}
START = datetime(2026, 1, 5, tzinfo=UTC)
DAYS = [f"2026-01-{day:02}" for day in range(5, 11)]
ROWS = 400


def project(**checks: Any) -> Project:
    return Project.model_validate(
        {"name": "toy", "source": {"format": "newsroom"}, "slices": {"start": START}, "checks": checks}
    )


def deployment(folder: Path, **checks: Any) -> Any:
    return SimpleNamespace(project=project(**checks), lake=Lake(str(folder)))


def lists(rows: int) -> pl.DataFrame:
    return pl.DataFrame({"impression_id": [str(n) for n in range(rows)]})


def clicks(rate: float, item: str = "known") -> pl.DataFrame:
    return pl.DataFrame({"item_id": [item] * ROWS, "clicked": [n < rate * ROWS for n in range(ROWS)]})


def texts(empty: int) -> pl.DataFrame:
    titles = ["" if n < empty else "a title" for n in range(100)]
    return pl.DataFrame(
        {"item_id": ["known"] * 100, "title": titles, "body": [None] * 100},
        schema_overrides={"body": pl.String},
    )


def numbers(table: str, shift: float) -> pl.DataFrame:
    values = np.random.default_rng(1).normal(shift, 1, ROWS)
    names = {"features": ["user_ctr_1d", "user_clicks_all", "user_ctr_1d_z"]}.get(table, ["interest_score"])
    # Lifetime counters and relative forms may move.
    return pl.DataFrame({name: values + (9 if name != names[0] and shift else 0) for name in names})


def vectors(turn: float) -> pl.DataFrame:
    return pl.DataFrame(
        {"vector": [[np.cos(turn), np.sin(turn)]] * 9}, schema={"vector": pl.List(pl.Float32)}
    )


def predicted(probability: float) -> pl.DataFrame:
    return clicks(0.1).with_columns(click_probability=pl.lit(probability))


def rows(*counts: int) -> dict[str, pl.DataFrame]:
    names = ("rejects", "items", "impressions", "interactions")
    return {
        name: pl.DataFrame({"n": [*range(count)]}, schema={"n": pl.Int64})
        for name, count in zip(names, counts, strict=True)
    }


def topics(*shifted: bool) -> pl.DataFrame:
    rows = [
        (
            "topic",
            f"v{n}",
            "predicted_rate",
            200,
            200,
            0.3,
            0.1,
            0.05,
            0.15,
            left,
            DAYS[-2] if left else None,
            ["known"] * left,
        )
        for n, left in enumerate(shifted)
    ]
    return pl.DataFrame(rows, TopicShifts.create_empty().schema, orient="row")


Tables = dict[str, pl.DataFrame]
CASES: dict[str, tuple[Tables, Tables, Tables]] = {
    "impressions.volume": ({"impressions": lists(100)}, {"impressions": lists(110)}, {"impressions": lists(40)}),
    "candidates.click_rate": ({"candidates": clicks(0.1)}, {"candidates": clicks(0.12)}, {"candidates": clicks(0.3)}),
    "candidates.known_items": (
        {"candidates": clicks(0.1), "items": texts(0)},
        {"candidates": clicks(0.1), "items": texts(0)},
        {"candidates": clicks(0.1, "unknown"), "items": texts(0)},
    ),
    "items.text": ({"items": texts(0)}, {"items": texts(5)}, {"items": texts(6)}),
    "rejects.share": (rows(0, 1, 1, 1), rows(5, 50, 25, 20), rows(6, 50, 25, 19)),
    "features.drift": tuple({"features": numbers("features", by)} for by in (0, 0.1, 2)),
    "interest_scores.drift": tuple({"interest_scores": numbers("interest_scores", by)} for by in (0, 0.1, 2)),
    "item_vectors.drift": tuple({"item_vectors": vectors(turn)} for turn in (0, 0.3, 1.2)),
    "evaluation.calibration": tuple({"evaluation_scores": predicted(p)} for p in (0.1, 0.12, 0.2)),
    "topic_shifts.bands": tuple(
        {"topic_shifts": topics(False, last), f"{STATE}/items": texts(0).head(1)} for last in (False, False, True)
    ),
}  # fmt: skip


def evaluate(folder: Path, name: str, before: Tables, newest: Tables, **checks: Any) -> Finding:
    toy = deployment(folder, **checks)
    for day in DAYS:
        for table, frame in (newest if day == DAYS[-1] else before).items():
            toy.lake.write(table, day, frame)
    return EVALUATE[name](View(toy.lake, toy.project, DAYS[-1:]))


@pytest.mark.parametrize("name", CASES)
def test_a_monitor_tells_a_normal_slice_from_an_anomaly(tmp_path: Path, name: str) -> None:
    before, normal, anomalous = CASES[name]
    passing, failing = (
        evaluate(tmp_path / part, name, before, now) for part, now in (("a", normal), ("b", anomalous))
    )
    assert passing.passed, passing.summary
    assert not failing.passed, failing.summary
    assert failing.summary != passing.summary
    assert all(isinstance(value, float) for value in (passing.figures | failing.figures).values())


def test_the_alert_of_a_shift_names_topic_size_since_when_and_typical_texts(tmp_path: Path) -> None:
    before, _, shifted = CASES["topic_shifts.bands"]
    finding = evaluate(tmp_path, "topic_shifts.bands", before, shifted)
    assert finding.summary == (
        "figures outside their bands: topic v1: predicted rate 0.300, expected 0.100 (+40 of 200 candidates), "
        "since 2026-01-09; typical: “a title”"
    )


def test_every_monitor_is_tested_here_or_in_the_chain() -> None:
    assert EVALUATE.keys() - CASES.keys() == {"features.training_serving_skew", "ranked_lists.freshness"}


@pytest.mark.parametrize("name", ["impressions.volume", "features.drift", "item_vectors.drift"])
def test_without_history_there_are_no_anomalies(tmp_path: Path, name: str) -> None:
    before, _, anomalous = CASES[name]
    assert evaluate(tmp_path, name, before, anomalous, min_history=6).passed


def test_a_project_sets_its_thresholds(tmp_path: Path) -> None:
    before, _, anomalous = CASES["items.text"]
    assert evaluate(tmp_path, "items.text", before, anomalous, no_text=0.5).passed


def test_calibration_passes_before_the_first_evaluation(tmp_path: Path) -> None:
    finding = evaluate(tmp_path, "evaluation.calibration", {}, {})
    assert finding.passed
    assert finding.summary == "nothing was evaluated yet"


def test_a_slice_is_overdue_max_delay_after_it_was_complete(tmp_path: Path) -> None:
    toy = deployment(tmp_path, max_delay="6h")
    toy.lake.write("ranking_dataset", DAYS[0], lists(1))
    complete_at = START + timedelta(days=2, minutes=30)  # the second slice's end, and its attribution window
    assert overdue_slices(toy, complete_at + timedelta(hours=5)) == []
    assert overdue_slices(toy, complete_at + timedelta(hours=6)) == [DAYS[1]]
    assert overdue_slices(toy, complete_at + timedelta(days=2, hours=6)) == DAYS[1:4]


def read(**columns: list[float | None]) -> pl.DataFrame:
    count = len(next(iter(columns.values())))
    return pl.DataFrame(
        {"impression_id": ["i"] * count, "item_id": [str(n) for n in range(count)], **columns}
    )


@pytest.mark.parametrize(
    ("stored", "live", "column"),
    [
        (read(a=[1.0, None]), read(a=[1.0, None]), ""),
        (read(a=[1e9, 1.0]), read(a=[1e9 + 0.1, 1.0]), ""),
        (read(a=[1.0, 2.0]), read(a=[1.0, 2.0 + 1e-6]), "a"),
        (read(a=[1.0, None]), read(a=[1.0, 0.0]), "a"),
        (read(a=[1.0, 2.0]), read(a=[1.0]), "their candidates"),
    ],
)
def test_a_feature_that_differs_in_serving_is_named(
    stored: pl.DataFrame, live: pl.DataFrame, column: str
) -> None:
    assert largest_difference(stored, live, 1e-9)[1] == column
