"""The counting loop against a plain reference that sums the event history anew at every lookup."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.state.counters import Counter, column
from features.state.kernels import Rows, codes_of, slots_of
from features.state.table import Index, Table

HOUR = 3_600_000_000
COUNTER = Counter(("item_id",), ("exposures", "clicks"), (("1h", 3600.0), ("none", None)))
ALL = ("exposures_1h", "exposures_all", "clicks_1h", "clicks_all", "last_at", "clicked_at", "clicked")
Event = tuple[int, list[int]]
"""An instant, and the codes that a row looks up or updates."""


def rows(table: Table, events: list[Event], amounts: list[list[float]], *, insert: bool = True) -> Rows:
    codes = np.array([code for _, codes in events for code in codes], np.int64)
    sizes = [len(codes) for _, codes in events]
    at = np.array([at for at, _ in events], np.int64)
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    quantities = np.array([0, 1])
    amount = np.array(amounts, float).reshape(len(events), 2)
    return Rows(at, start, table.locate(codes, insert=insert), amount, quantities, quantities, 1)


def look_up(table: Table, shown: list[Event], done: list[Event] = (), *, update: bool = True) -> np.ndarray:  # type: ignore[assignment]
    """[column of `ALL`, row of `shown`]: looked-up numbers; NaN for an instant without event."""
    out = np.zeros((len(ALL), len(shown)))
    out[4:6] = np.nan
    columns = np.array([table.number[name] for name in ALL])
    exposed = rows(table, shown, [[1.0, 0.0]] * len(shown), insert=update)
    clicked = rows(table, done, [[0.0, 1.0]] * len(done), insert=update)
    table.count(exposed, clicked, columns, out, np.empty(0), update=update)
    return out


def reference(shown: list[Event], done: list[Event], ttl: int | None) -> np.ndarray:
    """As `look_up`, by definition."""
    out = np.zeros((len(ALL), len(shown)))
    out[4:6] = np.nan
    every = sorted([(at, 0, codes) for at, codes in shown] + [(at, 1, codes) for at, codes in done])
    for n, (now, codes) in enumerate(shown):
        for code in codes:
            history: list[tuple[int, int]] = []
            for at, kind, others in every:
                if at < now and code in others:
                    if history and ttl is not None and at - history[-1][0] > ttl:
                        history = []
                    history += [(at, kind)] * others.count(code)
            if not history or (ttl is not None and now - history[-1][0] > ttl):
                continue
            for quantity in (0, 1):
                ages = [(now - at) / HOUR for at, kind in history if kind == quantity]
                out[2 * quantity, n] += sum(0.5**age for age in ages)
                out[2 * quantity + 1, n] += len(ages)
            clicks = [at for at, kind in history if kind == 1]
            out[4, n] = np.fmax(out[4, n], history[-1][0])
            out[5, n] = np.fmax(out[5, n], clicks[-1] if clicks else np.nan)
            out[6, n] += bool(clicks)
    return out


def test_a_column_is_named_by_quantity_and_half_life() -> None:
    assert COUNTER.columns == list(ALL[:4])
    assert column("clicks", "none") == "clicks_all"


def test_a_count_halves_with_each_half_life() -> None:
    numbers = look_up(Table.empty(COUNTER), [(0, [7]), (HOUR, [7]), (3 * HOUR, [7])])

    assert numbers[0].tolist() == pytest.approx([0, 0.5, 0.125 + 0.25])
    assert numbers[1].tolist() == [0, 1, 2]
    assert numbers[4].tolist() == pytest.approx([np.nan, 0, HOUR], nan_ok=True)


def test_rows_of_one_instant_do_not_see_each_other() -> None:
    numbers = look_up(Table.empty(COUNTER), [(5, [7]), (5, [7]), (6, [7])], [(5, [7])])

    assert numbers[1].tolist() == [0, 0, 2]
    assert numbers[3].tolist() == [0, 0, 1]


def test_an_entry_expires_after_its_ttl_and_starts_again() -> None:
    table = Table.empty(replace(COUNTER, ttl=timedelta(hours=1)))

    numbers = look_up(table, [(0, [7]), (HOUR, [7]), (2 * HOUR + 1, [7]), (2 * HOUR + 2, [7])], [(0, [7])])

    assert numbers[1].tolist() == [0, 1, 0, 1]
    assert numbers[3].tolist() == [0, 1, 0, 0]
    assert np.isnan(numbers[5, 3])


def test_a_lookup_without_update_changes_nothing_and_adds_no_key() -> None:
    table = Table.empty(COUNTER)
    look_up(table, [(0, [7])])
    before = [array.copy() for array in table.entries]

    numbers = look_up(table, [(HOUR, [7, 8])], update=False)

    assert numbers[:2, 0].tolist() == [0.5, 1.0]
    assert len(table) == 1
    assert all(np.array_equal(now, then) for now, then in zip(table.entries, before, strict=True))


def test_prior_holds_the_clicks_of_each_slot_before_its_update() -> None:
    table = Table.empty(COUNTER)
    done = rows(table, [(0, [7]), (0, [7, 8]), (1, [7])], [[0.0, 1.0]] * 3)
    prior = np.empty(4)

    table.count(rows(table, [], []), done, np.empty(0, np.int64), np.empty((0, 0)), prior, update=True)

    assert prior.tolist() == [0, 1, 0, 2]


def test_codes_are_numbered_in_order_of_appearance() -> None:
    codes = np.random.default_rng(1).permutation(np.arange(5000) << 32 | np.arange(5000) % 7)
    index = Index(np.empty(0, np.int64))

    first, again = index.locate(codes), index.locate(codes[::-1].copy())

    assert first.tolist() == list(range(5000))
    assert np.array_equal(again, first[::-1])
    assert np.array_equal(index.codes, codes)
    assert index.locate(np.array([-1 & 0x7FFF_FFFF << 32, codes[3]]), insert=False).tolist() == [-1, 3]


def test_a_sweep_drops_expired_entries_once_the_table_has_doubled() -> None:
    table = Table.empty(replace(COUNTER, ttl=timedelta(hours=1)))
    look_up(table, [(n * HOUR // 100, [n]) for n in range(1000)])
    expected = look_up(table, [(10 * HOUR, [n]) for n in range(1000)], update=False)

    table.sweep(10 * HOUR)
    swept = len(table)
    look_up(table, [(11 * HOUR, [1])])
    table.sweep(11 * HOUR)

    assert swept == np.count_nonzero(expected[1]) == 100
    assert len(table) == 101


def test_codes_combine_a_row_with_the_values_of_its_owner() -> None:
    start, value = np.array([0, 2, 2, 3]), np.array([4, 5, 6])
    owner, high = np.array([2, -1, 0, 1]), np.array([9, 9, 1, 1])

    slots = slots_of(owner, start)

    assert slots.tolist() == [0, 1, 1, 3, 3]
    assert codes_of(owner, start, value, high, slots).tolist() == [9 << 32 | 6, 1 << 32 | 4, 1 << 32 | 5]


events = st.lists(
    st.tuples(
        st.integers(0, 12).map(lambda n: n * HOUR // 4),
        st.lists(st.sampled_from([1, 2, 1 << 32]), max_size=3),
    ),
    max_size=10,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shown=events,
    done=events,
    ttl=st.sampled_from([None, HOUR // 4, HOUR // 2]),
    cuts=st.sets(st.integers(0, 12)),
)
def test_the_loop_agrees_with_the_reference_wherever_time_is_cut(
    shown: list[Event], done: list[Event], ttl: int | None, cuts: set[int]
) -> None:
    shown, done = sorted(shown), sorted(done)
    counter = replace(COUNTER, ttl=None if ttl is None else timedelta(microseconds=ttl))
    table, results, since = Table.empty(counter), [], 0
    for until in (*(cut * HOUR // 4 for cut in sorted(cuts)), 99 * HOUR):
        parts = [[event for event in part if since <= event[0] < until] for part in (shown, done)]
        results.append(look_up(table, *parts))
        since = until

    np.testing.assert_allclose(np.concatenate(results, axis=1), reference(shown, done, ttl), rtol=1e-12)
