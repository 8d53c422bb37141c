from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.counter import Counter, column
from features.decay import advance, read

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

    found = read(NOTHING, facts(("a", at, 1.0)), asked, COUNTER, SINCE)

    assert found["clicks_all"].to_list() == [0.0, 1.0]
    assert found["last_at"].to_list() == [None, at]


def test_an_unknown_key_has_zeros_and_no_last_instant() -> None:
    found = read(NOTHING, facts(("a", SINCE, 1.0)), moments(("b", SINCE + HOUR)), COUNTER, SINCE)

    assert found.row(0) == (0.0, 0.0, None, None)


def test_read_answers_row_for_row_whatever_the_order_and_however_often_it_is_asked() -> None:
    new = facts(("a", SINCE, 1.0), ("b", SINCE, 2.0))
    asked = moments(("b", SINCE + HOUR), ("a", SINCE + 2 * HOUR), ("c", SINCE), ("b", SINCE + HOUR))

    found = read(NOTHING, new, asked, COUNTER, SINCE)

    assert found["clicks_1h"].to_list() == pytest.approx([1.0, 0.25, 0.0, 1.0])
    assert found["clicks_all"].to_list() == [2.0, 1.0, 0.0, 2.0]


def test_read_returns_only_what_is_wanted() -> None:
    asked = moments(("a", SINCE + HOUR))

    found = read(NOTHING, facts(("a", SINCE, 1.0)), asked, COUNTER, SINCE, {"clicks_all", "clicked_at"})

    assert found.to_dicts() == [{"clicks_all": 1.0, "clicked_at": SINCE}]


def test_the_last_click_is_told_apart_from_the_last_fact() -> None:
    new = facts(("a", SINCE, 1.0), ("a", SINCE + HOUR, 0.0))

    found = read(NOTHING, new, moments(("a", SINCE + 2 * HOUR)), COUNTER, SINCE)
    later = advance(NOTHING, new, COUNTER, SINCE, SINCE + 2 * HOUR)

    for told in (found, later):
        assert told.select("last_at", "clicked_at").row(0) == (SINCE + HOUR, SINCE)


def test_a_huge_value_of_one_key_does_not_blur_anothers() -> None:
    counter = Counter(("item_id",), ("views_value",), (("none", None),))
    huge = facts(("a", SINCE, 1e15), ("b", SINCE, 0.1), ("b", SINCE + HOUR, 0.2), ("c", SINCE, 1e15))
    huge = huge.rename({"clicks": "views_value"})
    nothing = counter.empty(pl.DataFrame(schema={"item_id": pl.String}))

    found = read(nothing, huge, moments(("b", SINCE + 2 * HOUR)), counter, SINCE)

    assert found["views_value_all"].item() == pytest.approx(0.3, rel=1e-12)


def test_an_entry_is_forgotten_once_nothing_touched_it_for_longer_than_declared() -> None:
    counter = replace(COUNTER, forget=HOUR)
    new = facts(("a", SINCE, 1.0), ("b", SINCE, 1.0), ("b", SINCE + HOUR, 1.0))
    asked = moments(("a", SINCE + HOUR), ("a", SINCE + HOUR + MICROSECOND), ("b", SINCE + 2 * HOUR))

    found = read(NOTHING, new, asked, counter, SINCE)
    kept = advance(NOTHING, new, counter, SINCE, SINCE + HOUR + MICROSECOND)

    assert found["clicks_all"].to_list() == [1.0, 0.0, 2.0]
    assert found["last_at"].to_list() == [SINCE, None, SINCE + HOUR]
    assert kept["item_id"].to_list() == ["b"]


def test_what_was_forgotten_begins_anew() -> None:
    counter = replace(COUNTER, forget=HOUR)
    again = SINCE + 3 * HOUR
    new = facts(("a", SINCE, 1.0), ("a", again, 1.0))
    asked = moments(("a", again), ("a", again + MICROSECOND))

    assert read(NOTHING, new, asked, counter, SINCE)["clicks_all"].to_list() == [0.0, 1.0]
    assert advance(NOTHING, new, counter, SINCE, again + HOUR)["clicks_all"].to_list() == [1.0]


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


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    happened=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 600)), max_size=12),
    cuts=st.sets(st.integers(1, 599), max_size=3),
    asked=st.integers(0, 600),
    forget=st.sampled_from([None, 60, 100]),
    many=st.booleans(),
)
def test_advancing_then_reading_is_the_sum_by_definition(
    happened: list[tuple[str, int]], cuts: set[int], asked: int, forget: int | None, many: bool
) -> None:
    minute = timedelta(minutes=1)
    counter = replace(COUNTER, forget=None if forget is None else forget * minute)
    new = facts(*((key, SINCE + n * minute, 1.0) for key, n in happened))
    totals, since, as_of = NOTHING, SINCE, SINCE + asked * minute
    for until in (SINCE + cut * minute for cut in sorted(cuts) if cut <= asked):
        part = new.filter(pl.col("at").is_between(since, until, closed="left"))
        totals, since = advance(totals, part, counter, since, until), until
    questions = moments(("a", as_of), ("b", as_of), *([("c", as_of)] * 60 if many else []))

    found = read(totals, new.filter(pl.col("at") >= since), questions, counter, since)

    for key, of_key in (("a", found.row(0, named=True)), ("b", found.row(1, named=True))):
        known: list[datetime] = []
        before = sorted(SINCE + n * minute for name, n in happened if name == key)
        for at in (*(at for at in before if at < as_of), as_of):
            if known and counter.forget is not None and at - known[-1] > counter.forget:
                known = []
            if at < as_of:
                known.append(at)
        assert of_key["clicks_1h"] == pytest.approx(
            sum(0.5 ** ((as_of - at) / HOUR) for at in known), rel=1e-9
        )
        assert of_key["clicks_all"] == len(known)
        assert of_key["last_at"] == max(known, default=None)
