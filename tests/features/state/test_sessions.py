from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from features.behaviour import advance
from features.config.project import Project
from features.state import MomentState, SliceEvents, start
from features.state.counters import SESSION, SESSION_READS
from features.state.layout import code, in_order, lay_out, place
from features.state.passing import run
from features.state.sessions import Sessions

Rows = list[tuple[Any, ...]]


def world(toy: SimpleNamespace, lists: Rows, done: Rows = (), **features: str) -> tuple[SliceEvents, Project]:  # type: ignore[assignment]
    """`lists` are (user, minute, session id)."""
    shown = [
        (f"r{n}", user, toy.at(minute), ["a", "b"], {"session": session})
        for n, (user, minute, session) in enumerate(lists)
    ]
    events = SliceEvents(toy.items(), toy.impressions(*shown), toy.interactions(*done))
    return events, toy.project(features=features)


def sessions(state: MomentState, events: SliceEvents) -> pl.DataFrame:
    """The session of each impression before the impression, in order of time."""
    events, tables = in_order(events), state.counted.copy()
    described = state.describe(events.items)
    shown = code(events.impressions, tables)
    done = place(state, events, shown)
    layout = lay_out(events, shown, done, described, tables)
    running = Sessions(state, layout, tables)
    reads = (*SESSION_READS, *SESSION)
    (chunk,) = run(tables, layout, running, reads, (), ["user"])
    found = pl.DataFrame({read.name: chunk.by_list[n] for n, read in enumerate(reads) if read in SESSION})
    return found.with_columns(pl.col("began_at").cast(pl.Int64).cast(pl.Datetime("us", "UTC")))


def starts(toy: SimpleNamespace, lists: Rows, **features: str) -> list[tuple[float, int]]:
    """Per impression: the minute when its session started, and the session's earlier impressions."""
    events, project = world(toy, lists, **features)
    found = sessions(start(project.slices.start, project.behaviour), events)
    minutes = (found["began_at"] - toy.START).dt.total_seconds() / 60
    return list(zip(minutes, found["lists"], strict=True))


def test_a_session_continues_until_a_long_break(toy: SimpleNamespace) -> None:
    lists = [("u", 10, None), ("u", 40, None), ("v", 50, None), ("u", 70.5, None), ("u", 80, None)]

    assert starts(toy, lists) == [(10, 0), (10, 1), (50, 0), (70.5, 0), (70.5, 1)]


def test_each_session_id_has_its_own_session(toy: SimpleNamespace) -> None:
    lists = [("u", 10, "s"), ("u", 12, "t"), ("u", 14, "s"), ("u", 15, None), ("u", 16, "t")]

    assert starts(toy, lists) == [(10, 0), (12, 0), (10, 1), (15, 0), (12, 1)]


def test_impressions_at_one_instant_do_not_see_each_other(toy: SimpleNamespace) -> None:
    lists = [("u", 10, "s"), ("u", 20, "s"), ("u", 20, "t"), ("u", 20, "s"), ("u", 30, "s")]

    assert starts(toy, lists) == [(10, 0), (10, 1), (20, 0), (10, 1), (10, 3)]


def test_a_session_ends_when_its_user_expires(toy: SimpleNamespace) -> None:
    lists = [("u", 10, "s"), ("u", 31, "s")]

    assert starts(toy, lists, ttl="20m") == [(10, 0), (31, 0)]


def test_a_session_stores_the_users_counts_at_its_start(toy: SimpleNamespace) -> None:
    done = [("u", "a", "click", toy.at(12)), ("u", "b", "click", toy.at(65))]
    events, project = world(toy, [("u", 10, None), ("u", 60, None), ("u", 70, None)], done)

    found = sessions(start(project.slices.start, project.behaviour), events)

    assert found.select("exposures", "clicks").rows() == [(0.0, 0.0), (2.0, 1.0), (2.0, 1.0)]


@pytest.mark.parametrize("cut", [10, 11, 20, 30, 31])
def test_a_session_continues_across_a_cut(toy: SimpleNamespace, cut: int) -> None:
    events, project = world(toy, [("u", 10, "s"), ("u", 20, "s"), ("u", 20, "s"), ("u", 31, "s")])
    undivided = sessions(start(project.slices.start, project.behaviour), events)
    state = advance(
        start(project.slices.start, project.behaviour),
        toy.between(events, toy.START, toy.at(cut)),
        toy.at(cut),
    )

    after = toy.between(events, toy.at(cut), toy.END)
    found = sessions(state, after)

    assert found.equals(undivided.tail(after.impressions.height))


def test_only_sessions_that_may_continue_are_kept(toy: SimpleNamespace) -> None:
    events, project = world(toy, [("u", 10, "s"), ("u", 20, "t"), ("v", 45, None), ("w", 5, None)])

    state = advance(start(project.slices.start, project.behaviour), events, toy.at(45) + timedelta(minutes=1))

    assert state.sessions.sort("user_id").select("user_id", "session_id").rows() == [("u", "t"), ("v", None)]
    assert state.sessions.filter(pl.col("lists") != 1).is_empty()
