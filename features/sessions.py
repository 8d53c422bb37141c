"""Sessions: runs of a user's lists under one session id, or under none, without a long break."""

from datetime import datetime, timedelta

import polars as pl

from features.decay import answer
from features.facts import Facts
from features.state import counters

_KEYS = ("user_id", "session_id")


def sessions(facts: Facts) -> pl.DataFrame:
    """The session of each of `facts.lists`, row for row, as it stood just before the list.

    `began_at`; `lists`, shown in it at earlier instants; `exposures` and `clicks`, the user's lifetime counts
    when it began.
    """
    return (
        _runs(facts)
        .filter(pl.col("list").is_not_null())
        .sort("list")
        .select("began_at", "lists", "exposures", "clicks")
    )


def current(facts: Facts, until: datetime) -> pl.DataFrame:
    """What `state.sessions` is at `until`: the sessions that may still go on."""
    runs = _runs(facts).with_columns(lists=pl.col("earlier") + pl.int_range(1, pl.len() + 1).over("run"))
    return (
        runs.group_by(*_KEYS, maintain_order=True)
        .agg(pl.col(name).last() for name in facts.state.sessions.columns if name not in _KEYS)
        .filter(until - pl.col("shown_at") <= _gap(facts))
    )


def _runs(facts: Facts) -> pl.DataFrame:
    """Remembered sessions and new lists by user, id and time, each row with what its session began with."""
    lists = facts.lists.select("list", "user_id", "session_id", "as_of")
    counter, wanted = counters(facts.project)["user"], {"exposures_all", "clicks_all"}
    lifetime = answer(facts.state.totals["user"], facts.of("user"), counter, facts.state.at, wanted)
    fresh = lists.select(
        "list",
        "user_id",
        "session_id",
        began_at="as_of",
        shown_at="as_of",
        lists=pl.lit(0, pl.Int64),
        exposures=lifetime["exposures_all"],
        clicks=lifetime["clicks_all"],
    )
    rows = pl.concat([facts.state.sessions, fresh], how="diagonal").sort(*_KEYS, "shown_at")
    silence = pl.col("shown_at") - pl.col("shown_at").shift(1)
    others = [pl.col(name).ne_missing(pl.col(name).shift(1)) for name in _KEYS]
    begins = pl.any_horizontal(*others, silence > _gap(facts)).fill_null(True)
    started = [pl.when("begins").then(name).forward_fill() for name in ("began_at", "exposures", "clicks")]
    # A remembered session stands for as many lists as it had; its own row is the last of them.
    earlier = pl.when("begins").then(pl.col("lists") - pl.col("list").is_null()).forward_fill()
    place = pl.int_range(pl.len()).over("run")
    alone = pl.col("begins") | (pl.col("shown_at") != pl.col("shown_at").shift(1))
    return (
        rows.with_columns(begins=begins)
        .with_columns(*started, run=pl.col("begins").cum_sum(), earlier=earlier)
        .with_columns(lists=pl.col("earlier") + pl.when(alone).then(place).forward_fill())
    )


def _gap(facts: Facts) -> timedelta:
    """The longest break within a session: whose user is forgotten, it is over."""
    return min(facts.project.features.session_gap, facts.project.features.forget_after)
