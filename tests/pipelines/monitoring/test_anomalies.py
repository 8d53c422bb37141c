"""An anomaly is far from the slices before it; one outlier among those hides no other."""

import polars as pl
import pytest

from pipelines.monitoring.anomalies import (
    anomalies,
    click_noise,
    cosine_distance,
    robust_z,
)

NORMAL = {f"2026-01-0{day}": 1000.0 + day for day in range(1, 9)}


@pytest.mark.parametrize(("value", "is_anomaly"), [(1040.0, False), (300.0, True), (2000.0, True)])
def test_a_slice_far_from_its_trailing_slices_is_an_anomaly(value: float, is_anomaly: bool) -> None:
    values = {**NORMAL, "2026-01-09": value}
    assert ("2026-01-09" in anomalies(values, ["2026-01-09"], 6, 14, 3)) is is_anomaly


def test_one_outlier_hides_no_other() -> None:
    values = {**NORMAL, "2026-01-06": 9000.0, "2026-01-09": 300.0}
    assert [*anomalies(values, [*values], 6, 14, 3)] == ["2026-01-06", "2026-01-09"]


def test_the_first_slices_are_skipped() -> None:
    assert anomalies({"a": 1.0, "b": 1.0, "c": 1.0, "d": 9.0}, ["c"], 6, 14, 3) == {}
    assert [*anomalies({"a": 1.0, "b": 1.0, "c": 1.0, "d": 9.0}, ["d"], 6, 14, 3)] == ["d"]


def test_equal_slices_still_leave_room_for_noise() -> None:
    assert abs(robust_z([0.1] * 5, 0.12)) < abs(robust_z([0.1] * 5, 0.2))
    assert abs(robust_z([0.1] * 5, 0.2, noise=click_noise(0.1, 30))) < 2
    assert robust_z([0.0] * 5, 0.0) == 0.0
    assert robust_z([0.0] * 5, 1.0) == float("inf")


def test_cosine_distance_ignores_length() -> None:
    one, orthogonal = pl.Series([1.0, 0.0]), pl.Series([0.0, 3.0])
    assert cosine_distance(one, one * 7) == pytest.approx(0.0)
    assert cosine_distance(one, orthogonal) == pytest.approx(1.0)
    assert cosine_distance(one, one * 0) == 0.0
