from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from pydantic import ValidationError

from features.config.slices import Slices, parse_duration, parse_instant
from features.errors import ProjectError

START = datetime(2026, 1, 5, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def slices(every: str = "1d", start: object = START, end: object = None) -> Slices:
    return Slices.model_validate({"start": start, "every": every, "end": end})


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("1h", 3600), ("7d", 604_800), ("0s", 0)]
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "m", "5", "5 m", "-5m", "1.5h", "5w", "5M", "²d", "99999999999999d", 5, None, ["1d"]]
)
def test_an_invalid_duration_is_refused_with_an_example(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration: write a whole number and s, m, h or d"):
        parse_duration(text)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-05T00:00:00Z",
        "2026-01-05",
        "2026-01-05T02:00:00+02:00",
        1_767_571_200_000,
        datetime(2026, 1, 5),
        START,
    ],
)
def test_instants_are_utc(text: object) -> None:
    assert parse_instant(text) == START
    assert parse_instant(text).tzinfo == UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-13-01",
        True,
        None,
        date(2026, 1, 5),
        1e300,
        float("nan"),
        10**15,
        "0001-01-01T00:00+14:00",
    ],
)
def test_an_invalid_instant_is_refused_with_an_example(text: object) -> None:
    with pytest.raises(ValueError, match="is not an instant: write it like 2026"):
        parse_instant(text)


@pytest.mark.parametrize(
    ("every", "start", "key"),
    [
        ("1d", START, "2026-01-05"),
        ("1d", START + timedelta(hours=6), "2026-01-05"),
        ("2m", START, "2026-01-05-00:00"),
        ("1h", START + timedelta(minutes=30), "2026-01-05-00:30"),
        ("7d", START + timedelta(hours=6), "2026-01-05"),
    ],
)
def test_a_slice_contains_its_start_and_not_its_end(every: str, start: datetime, key: str) -> None:
    cut = slices(every, start)
    begin, end = cut.window(key)

    assert (begin, end - begin) == (start, cut.every)
    assert cut.key(begin) == cut.key(end - MICROSECOND) == key
    assert cut.key(end) != key
    assert cut.window(cut.key(end))[0] == end


def test_keys_sort_by_time_and_windows_are_contiguous() -> None:
    cut = slices("1h", end=START + timedelta(hours=30))

    keys = cut.keys(START, START + timedelta(days=9))

    assert len(keys) == 30
    assert keys == sorted(keys)
    windows = [cut.window(key) for key in keys]
    assert all(one[1] == other[0] for one, other in pairwise(windows))


@pytest.mark.parametrize(
    ("since", "until", "keys"),
    [
        (START, START, []),
        (START, START + MICROSECOND, ["2026-01-05"]),
        (START + MICROSECOND, START + timedelta(days=1), []),
        (START - timedelta(days=3), START + timedelta(days=2), ["2026-01-05", "2026-01-06"]),
        (START + timedelta(days=1), START + timedelta(days=2), ["2026-01-06"]),
    ],
)
def test_keys_of_the_slices_that_start_in_a_window(since: datetime, until: datetime, keys: list[str]) -> None:
    assert slices().keys(since, until) == keys


@pytest.mark.parametrize(
    ("every", "end", "by", "key"),
    [
        ("1d", None, START + timedelta(days=1) - MICROSECOND, None),
        ("1d", None, START + timedelta(days=1), "2026-01-05"),
        ("1d", START + timedelta(days=2), START + timedelta(days=900), "2026-01-06"),
        ("1m", None, START + timedelta(days=3650), "2036-01-02-23:59"),
        ("7d", None, START + timedelta(days=20), "2026-01-12"),
    ],
)
def test_the_last_slice_that_has_ended(
    every: str, end: datetime | None, by: datetime, key: str | None
) -> None:
    assert slices(every, end=end).last_ended(by) == key


@pytest.mark.parametrize(
    ("keys", "gap"),
    [
        (["2026-01-06", "2026-01-08"], ("2026-01-05", "2026-01-05", 1)),
        (["2026-01-05", "2026-01-08"], ("2026-01-06", "2026-01-07", 2)),
        (["2026-01-05"], ("2026-01-06", "2026-01-08", 3)),
        ([], ("2026-01-05", "2026-01-08", 4)),
        (["2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08", "2026-01-30"], None),
    ],
)
def test_the_widest_gap_is_the_longest_run_of_missing_slices(
    keys: list[str], gap: tuple[str, str, int] | None
) -> None:
    assert slices().widest_gap("2026-01-05", "2026-01-08", keys) == gap


def test_the_slice_before() -> None:
    assert slices().previous("2026-01-06") == "2026-01-05"
    assert slices().previous("2026-01-05") is None


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("2026-01-04", "slices start at '2026-01-05'"),
        ("2026-1-x", "is not written as"),
        ("2026-01-05-00:00", "is not"),
    ],
)
def test_an_invalid_key(key: str, message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        slices().window(key)


def test_a_key_between_two_slices() -> None:
    with pytest.raises(ProjectError, match="repeat every 0:02:00"):
        slices("2m").window("2026-01-05-00:01")


@pytest.mark.parametrize(
    ("every", "start", "end", "message"),
    [
        ("0s", START, None, r'slices.every is "0d".* choose one of "1m", "2m", .*"12h", "1d", "7d"'),
        ("30s", START, None, r'slices.every is "30s"'),
        ("45m", START, None, r'slices.every is "45m"'),
        ("5h", START, None, r'slices.every is "5h"'),
        ("48h", START, None, r'slices.every is "2d"'),
        ("2m", START + timedelta(seconds=30), None, "write a whole minute"),
        ("1d", START, START, "end must come after"),
        (
            "1d",
            START,
            START + timedelta(hours=47),
            "in the middle of a slice: write 2026-01-06T00.* or 2026-01-07T00",
        ),
        ("7d", START, START + timedelta(days=3), r"in the middle of a slice: write 2026-01-12T00"),
        ("1d", "soon", None, "is not an instant"),
    ],
)
def test_invalid_slices(every: str, start: object, end: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        slices(every, start, end)
