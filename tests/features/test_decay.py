from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.decay import Counter, advance, column, read

SINCE = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)
COUNTER = Counter(("item_id",), ("clicks",), (("1h", 3600.0), ("none", None)))
NOTHING = COUNTER.empty(pl.DataFrame(schema={"item_id": pl.String}))


def facts(*rows: tuple[str, datetime, float]) -> pl.DataFrame:
    schema = {"item_id": pl.String, "at": pl.Datetime("us", "UTC"), "clicks": pl.Float64}
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def moments(*rows: tuple[str, datetime]) -> pl.DataFrame:
    return pl.DataFrame(
        list(rows), schema={"item_id": pl.String, "as_of": pl.Datetime("us", "UTC")}, orient="row"
    )


def test_a_counter_is_named_by_quantity_and_half_life() -> None:
    assert COUNTER.columns == ["clicks_1h", "clicks_all"]
    assert column("clicks", "none") == "clicks_all"


def test_a_fact_halves_with_each_half_life() -> None:
    found = read(
        NOTHING,
        facts(("a", SINCE, 4.0)),
        moments(("a", SINCE + HOUR), ("a", SINCE + 2 * HOUR)),
        COUNTER,
        SINCE,
    )

    assert found["clicks_1h"].to_list() == pytest.approx([2.0, 1.0])
    assert found["clicks_all"].to_list() == [4.0, 4.0]
    assert found["last_at"].to_list() == [SINCE, SINCE]


def test_only_what_was_known_strictly_before_counts() -> None:
    at = SINCE + HOUR
    asked = moments(("a", at), ("a", at + MICROSECOND))

    found = read(NOTHING, facts(("a", at, 1.0)), asked, COUNTER, SINCE).sort("as_of")

    assert found["clicks_all"].to_list() == [0.0, 1.0]
    assert found["last_at"].to_list() == [None, at]


def test_an_unknown_key_has_zeros_and_no_last_instant() -> None:
    found = read(NOTHING, facts(("a", SINCE, 1.0)), moments(("b", SINCE + HOUR)), COUNTER, SINCE)

    assert found.row(0) == ("b", SINCE + HOUR, 0.0, 0.0, None)


def test_read_answers_each_distinct_question_once() -> None:
    asked = moments(("a", SINCE + HOUR), ("a", SINCE + HOUR), ("b", SINCE + HOUR))

    found = read(NOTHING, facts(), asked, COUNTER, SINCE)

    assert sorted(found["item_id"]) == ["a", "b"]


def test_advance_keeps_one_row_a_key_in_order_and_when_it_last_was() -> None:
    new = facts(("b", SINCE, 1.0), ("a", SINCE, 1.0), ("b", SINCE + HOUR, 1.0))

    totals = advance(NOTHING, new, COUNTER, SINCE, SINCE + 2 * HOUR)
    later = advance(totals, facts(), COUNTER, SINCE + 2 * HOUR, SINCE + 3 * HOUR)

    assert totals["item_id"].to_list() == ["a", "b"]
    assert totals["clicks_1h"].to_list() == pytest.approx([0.25, 0.75])
    assert later["clicks_1h"].to_list() == pytest.approx([0.125, 0.375])
    assert later["clicks_all"].to_list() == [1.0, 2.0]
    assert later["last_at"].to_list() == [SINCE, SINCE + HOUR]


def test_a_thousand_half_lives_in_one_slice_stay_exact() -> None:
    end = SINCE + 1000 * HOUR
    new = facts(("a", SINCE, 1.0), ("a", end - 2 * HOUR, 1.0))

    found = read(NOTHING, new, moments(("a", end - HOUR)), COUNTER, SINCE)

    assert found["clicks_1h"].item() == pytest.approx(0.5, rel=1e-12)
    assert advance(NOTHING, new, COUNTER, SINCE, end)["clicks_1h"].item() == pytest.approx(0.25, rel=1e-12)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    happened=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 600)), max_size=12),
    cut=st.integers(1, 599),
    asked=st.integers(0, 600),
)
def test_advancing_then_reading_is_the_sum_by_definition(
    happened: list[tuple[str, int]], cut: int, asked: int
) -> None:
    minute = timedelta(minutes=1)
    new = facts(*((key, SINCE + n * minute, 1.0) for key, n in happened))
    middle, as_of = SINCE + cut * minute, SINCE + max(asked, cut) * minute
    early = pl.col("at") < middle
    totals = advance(NOTHING, new.filter(early), COUNTER, SINCE, middle)

    found = read(totals, new.filter(~early), moments(("a", as_of), ("b", as_of)), COUNTER, middle).sort(
        "item_id"
    )

    for key, of_key in (("a", found.row(0, named=True)), ("b", found.row(1, named=True))):
        known = [SINCE + n * minute for name, n in happened if name == key and SINCE + n * minute < as_of]
        assert of_key["clicks_1h"] == pytest.approx(
            sum(0.5 ** ((as_of - at) / HOUR) for at in known), rel=1e-9
        )
        assert of_key["clicks_all"] == len(known)
        assert of_key["last_at"] == max(known, default=None)
