"""An anomaly is far from the slices before it; one outlier among those hides no other."""

import polars as pl
import pytest

from pipelines.monitoring.anomalies import (
    anomalies,
    attribute_rates,
    click_noise,
    cosine_distance,
    robust_z,
    topic_shifts,
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


def test_rates_count_an_item_under_each_of_its_values() -> None:
    candidates = pl.DataFrame({"item_id": ["a", "a", "b", "x"], "clicked": [True, False, True, True]})
    items = pl.DataFrame(
        {
            "item_id": ["a", "b", "c"],
            "attributes": [
                [{"name": "tag", "value": "sea"}, {"name": "tag", "value": "sun"}],
                [{"name": "tag", "value": "sea"}],
                [{"name": "tag", "value": "air"}],
            ],
        }
    )
    rates = attribute_rates(candidates, items)
    assert rates.rows() == [("tag", "sea", 3, 2, pytest.approx(2 / 3)), ("tag", "sun", 2, 1, 0.5)]


def day(slice: str, **clicked: int) -> pl.DataFrame:
    rows = [("topic", value, 1000, count, count / 1000, slice) for value, count in clicked.items()]
    return pl.DataFrame(
        rows, schema=["attribute", "value", "shown", "clicked", "rate", "slice"], orient="row"
    )


def test_a_value_shifts_when_it_leaves_its_band() -> None:
    history = pl.concat([day("1", sea=100, sun=50), day("2", sea=104, sun=52), day("3", sea=98, sun=49)])
    now = day("4", sea=105, sun=200, air=300).drop("slice")
    table = topic_shifts(now, history, limit=4, min_history=3, min_exposures=200)
    assert dict(table.select("value", "shifted").iter_rows()) == {"sea": False, "sun": True, "air": False}
    sun = table.filter(value="sun").row(0, named=True)
    assert sun["low"] < sun["expected"] == 0.05 < sun["high"] < 0.2
    assert table.filter(value="air")["expected"].is_null().all()


@pytest.mark.parametrize(("min_history", "min_exposures"), [(4, 200), (3, 1001)])
def test_a_value_with_little_history_has_no_band(min_history: int, min_exposures: int) -> None:
    history = pl.concat([day(name, sun=50) for name in "123"])
    table = topic_shifts(day("4", sun=300).drop("slice"), history, 4, min_history, min_exposures)
    assert not table["shifted"].any()
