"""Figures by attribute value, their bands, and the items that are typical of a shift."""

import numpy as np
import polars as pl
import pytest

from features.config.sections import Checks
from features.schemas import ItemVectors, TopicShifts
from pipelines.monitoring.attribute_shifts import attribute_figures, find_shifts, with_typical

CHECKS = Checks(min_exposures=50, false_alarms=0.001)
EMPTY = TopicShifts.create_empty().with_columns(slice=pl.lit(""))


def tagged(**values: str) -> pl.DataFrame:
    attributes = [[{"name": "tag", "value": value} for value in tags.split()] for tags in values.values()]
    return pl.DataFrame({"item_id": [*values], "attributes": attributes})


def test_figures_count_an_item_under_each_of_its_values() -> None:
    candidates = pl.DataFrame(
        {
            "item_id": ["a", "a", "b", "x"],
            "clicked": [True, False, True, True],
            "interest_score": pl.Series([0.5, 0.75, 0.25, None], dtype=pl.Float32),
        }
    )
    figures = attribute_figures(candidates, tagged(a="sea sun", b="sea", c="air"))
    assert figures.rows() == [
        ("tag", "sea", "click_rate", 3, 3, pytest.approx(2 / 3)),
        ("tag", "sea", "predicted_rate", 3, 3, 0.5),
        ("tag", "sea", "share", 3, 4, 0.75),
        ("tag", "sun", "click_rate", 2, 2, 0.5),
        ("tag", "sun", "predicted_rate", 2, 2, 0.625),
        ("tag", "sun", "share", 2, 4, 0.5),
    ]


def walk(rates: list[list[float]], checks: Checks = CHECKS, shown: int = 400) -> pl.DataFrame:
    """Shifts of each slice of a series: a predicted rate per topic and slice, with binomial noise."""
    draw, history = np.random.default_rng(3), EMPTY
    for number, by_topic in enumerate(rates):
        means = draw.binomial(shown, by_topic) / shown
        rows = [("topic", str(n), "predicted_rate", shown, shown, mean) for n, mean in enumerate(means)]
        figures = pl.DataFrame(rows, EMPTY.schema.names()[:6], orient="row")
        slice = f"2026-01-{number + 5:02}"
        shifts = find_shifts(figures, history, checks, slice).with_columns(slice=pl.lit(slice))
        history = pl.concat([history, shifts], how="diagonal")
    return history


def test_a_turn_is_found_at_once_and_dated_and_constant_topics_raise_no_alarm() -> None:
    constant = [[0.2, 0.3, 0.5]] * 8
    shifts = walk([*constant, [0.4, 0.3, 0.5], [0.4, 0.3, 0.5]]).filter("shifted")
    assert shifts.select("value", "slice", "since").rows() == [
        ("0", "2026-01-13", "2026-01-13"),
        ("0", "2026-01-14", "2026-01-13"),
    ]
    row = shifts.row(0, named=True)
    assert row["low"] < row["expected"] < row["high"] < row["mean"]


@pytest.mark.parametrize("checks", [Checks(min_exposures=401), Checks(min_exposures=50, min_history=9)])
def test_a_value_with_little_history_has_no_band(checks: Checks) -> None:
    shifts = walk([[0.2, 0.3]] * 8 + [[0.9, 0.3]], checks)
    assert shifts["expected"].is_null().all()
    assert not shifts["shifted"].any()


def test_what_always_varies_is_no_shift() -> None:
    swinging = [[0.2, 0.5], [0.4, 0.5]] * 5
    assert not walk(swinging)["shifted"].any()


def test_typical_items_are_those_predicted_and_near_to_each_other() -> None:
    items = tagged(a="sea", b="sea", c="sea", d="sea", e="sun")
    scores = pl.Series([0.9, 0.8, 0.7, 0.1, 0.9], dtype=pl.Float32)
    candidates = pl.DataFrame({"item_id": [*"abcde"], "clicked": False, "interest_score": scores})
    vectors = pl.DataFrame(
        {
            "item_id": [*"abcde"],
            "known_at": None,
            "vector": [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]],
        },
        ItemVectors.create_empty().schema,
    )
    shift = walk([[0.2]] * 8 + [[0.9]]).tail(1).with_columns(attribute=pl.lit("tag"), value=pl.lit("sea"))
    assert with_typical(shift, candidates, items, vectors)["typical"].to_list() == [["a", "b", "c"]]
    constant = shift.with_columns(shifted=False)
    assert with_typical(constant, candidates, items, vectors)["typical"].to_list() == [[]]
