"""Each monitor is quiet over slices that go on as before, and speaks up over one that does not."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.config.project import Project
from pipelines.lake import Lake
from pipelines.monitoring.monitors import MONITORS, Finding, View, furthest, overdue_slices

LOOK = {f"{monitor.asset}.{monitor.name}": monitor.look for monitor in MONITORS}
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
    # What only grows, and what is relative to a list, may move.
    return pl.DataFrame({name: values + (9 if name != names[0] and shift else 0) for name in names})


def vectors(turn: float) -> pl.DataFrame:
    return pl.DataFrame(
        {"vector": [[np.cos(turn), np.sin(turn)]] * 9}, schema={"vector": pl.List(pl.Float32)}
    )


def foretold(probability: float) -> pl.DataFrame:
    return clicks(0.1).with_columns(click_probability=pl.lit(probability))


def rows(*counts: int) -> dict[str, pl.DataFrame]:
    names = ("rejects", "items", "impressions", "interactions")
    return {
        name: pl.DataFrame({"n": [*range(count)]}, schema={"n": pl.Int64})
        for name, count in zip(names, counts, strict=True)
    }


def topics(*shifted: bool) -> pl.DataFrame:
    count = len(shifted)
    named = {"attribute": ["topic"] * count, "value": [f"v{n}" for n in range(count)], "shifted": [*shifted]}
    return pl.DataFrame({**named, "rate": [0.3] * count, "expected": [0.1] * count})


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
    "rejects.few": (rows(0, 1, 1, 1), rows(5, 50, 25, 20), rows(6, 50, 25, 19)),
    "features.drift": tuple({"features": numbers("features", by)} for by in (0, 0.1, 2)),
    "interest_scores.drift": tuple({"interest_scores": numbers("interest_scores", by)} for by in (0, 0.1, 2)),
    "item_vectors.drift": tuple({"item_vectors": vectors(turn)} for turn in (0, 0.3, 1.2)),
    "evaluation.calibration": tuple({"evaluation_scores": foretold(p)} for p in (0.1, 0.12, 0.2)),
    "topic_shifts.steady": tuple({"topic_shifts": topics(False, last)} for last in (False, False, True)),
}  # fmt: skip


def look(folder: Path, name: str, before: Tables, newest: Tables, **checks: Any) -> Finding:
    made = deployment(folder, **checks)
    for day in DAYS:
        for table, frame in (newest if day == DAYS[-1] else before).items():
            made.lake.write(table, day, frame)
    return LOOK[name](View(made, DAYS[-1:]))


@pytest.mark.parametrize("name", CASES)
def test_a_monitor_tells_a_usual_slice_from_an_unusual_one(tmp_path: Path, name: str) -> None:
    before, usual, unusual = CASES[name]
    quiet, loud = (look(tmp_path / part, name, before, now) for part, now in (("a", usual), ("b", unusual)))
    assert quiet.holds, quiet.said
    assert not loud.holds, loud.said
    assert loud.said != quiet.said
    assert all(isinstance(value, float) for value in (quiet.figures | loud.figures).values())


def test_every_monitor_is_tried_here_or_in_the_whole_chain() -> None:
    assert LOOK.keys() - CASES.keys() == {"features.served_alike", "ranked_lists.fresh"}


@pytest.mark.parametrize("name", ["impressions.volume", "features.drift", "item_vectors.drift"])
def test_with_few_slices_before_it_nothing_is_unusual(tmp_path: Path, name: str) -> None:
    before, _, unusual = CASES[name]
    assert look(tmp_path, name, before, unusual, fewest=6).holds


def test_a_threshold_is_the_project_s_to_set(tmp_path: Path) -> None:
    before, _, unusual = CASES["items.text"]
    assert look(tmp_path, "items.text", before, unusual, no_text=0.5).holds


def test_before_anything_was_judged_calibration_waits(tmp_path: Path) -> None:
    found = look(tmp_path, "evaluation.calibration", {}, {})
    assert found.holds
    assert found.said == "nothing was evaluated yet"


def test_a_slice_is_overdue_once_it_could_have_been_run_for_as_long_as_declared(tmp_path: Path) -> None:
    made = deployment(tmp_path, age="6h")
    made.lake.write("ranking_dataset", DAYS[0], lists(1))
    could = START + timedelta(days=2, minutes=30)  # the second slice's end, and its attribution window
    assert overdue_slices(made.lake, made.project, could + timedelta(hours=5)) == []
    assert overdue_slices(made.lake, made.project, could + timedelta(hours=6)) == [DAYS[1]]
    assert overdue_slices(made.lake, made.project, could + timedelta(days=2, hours=6)) == DAYS[1:4]


def read(**columns: list[float | None]) -> pl.DataFrame:
    count = len(next(iter(columns.values())))
    return pl.DataFrame(
        {"impression_id": ["i"] * count, "item_id": [str(n) for n in range(count)], **columns}
    )


@pytest.mark.parametrize(
    ("kept", "live", "where"),
    [
        (read(a=[1.0, None]), read(a=[1.0, None]), ""),
        (read(a=[1e9, 1.0]), read(a=[1e9 + 0.1, 1.0]), ""),
        (read(a=[1.0, 2.0]), read(a=[1.0, 2.0 + 1e-6]), "a"),
        (read(a=[1.0, None]), read(a=[1.0, 0.0]), "a"),
        (read(a=[1.0, 2.0]), read(a=[1.0]), "their candidates"),
    ],
)
def test_a_served_feature_that_differs_is_named(kept: pl.DataFrame, live: pl.DataFrame, where: str) -> None:
    assert furthest(kept, live, 1e-9)[1] == where
