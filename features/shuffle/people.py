"""A bucket of people: what it tells each tick, and what it reads and remembers once the ticks have answered."""

from dataclasses import dataclass
from functools import cached_property

import polars as pl

from features.behaviour import Shared
from features.decay import added
from features.facts import Facts
from features.shuffle.ticks import Ticks
from features.state import SliceEvents, counters

OWN = ("open", "shown", "sessions", "moments")
"""Tables of the state, beside counters, whose rows are each one person's."""


@dataclass(frozen=True)
class Told:
    """What a bucket tells a tick. Of whom it is, the tick need not know."""

    lists: pl.DataFrame
    """`shown_at, context, candidates` of each list, in order of time."""
    done: pl.DataFrame
    """`Facts.placed`, without the user."""


@dataclass(frozen=True)
class Answers:
    """What a tick answers a bucket: row for row with the lists that it was told, and with their candidates."""

    shared: Shared
    expected: pl.DataFrame
    """One column, `expected`: `Facts.expected`."""


@dataclass(frozen=True)
class Answered(Facts):
    """Facts of a bucket's events, `in_order`, to which the ticks said how often each position is clicked."""

    answer: pl.Series

    @cached_property
    def expected(self) -> pl.Series:
        """See `Facts.expected`."""
        return self.answer


def in_order(events: SliceEvents) -> SliceEvents:
    """The events by instant and id, whatever order they came in: answers come back by place."""
    return SliceEvents(
        events.items,
        events.impressions.sort("shown_at", "impression_id"),
        events.interactions.sort("known_at", "interaction_id"),
    )


def items_of(lists: pl.DataFrame, *others: pl.DataFrame) -> pl.DataFrame:
    """`item_id` of every item in the lists' candidates, and of the others' rows, once."""
    shown = lists.select(pl.col("candidates").explode(empty_as_null=False).struct.field("item_id"))
    return pl.concat([shown, *(rows.select("item_id") for rows in others)]).unique()


def tell(facts: Facts, ticks: Ticks) -> list[Told]:
    """What the bucket tells each tick; the events of `facts` are `in_order`."""
    lists = facts.events.impressions.select("shown_at", "context", "candidates")
    done = facts.placed.drop("user_id")
    parts = zip(ticks.cut(lists, "shown_at"), ticks.cut(done, "at"), strict=True)
    return [Told(*part) for part in parts]


def tell_positions(facts: Facts, ticks: Ticks) -> pl.DataFrame:
    """What the bucket adds to the counts of each position: `decay.added` of each tick, with its start as `at`."""
    counter, found = counters(facts.project)["position"], []
    for tick, part in enumerate(ticks.cut(facts.of("position"), "at")):
        window = ticks.window(tick)
        found.append(ticks.stamp(added(part, counter, ticks.since, *window), tick))
    return pl.concat(found)


def together(positions: list[pl.DataFrame]) -> pl.DataFrame:
    """All buckets' `tell_positions` as if they were one's: these counts are never forgotten, and may be added up."""
    return (
        pl.concat(positions)
        .group_by("at", "position", maintain_order=True)
        .agg(pl.col(pl.Float64).sum(), pl.col("last_at", "clicked_at").max(), pl.col("met_at").min())
        .sort("at", "position")
    )


def gather(answers: list[Answers]) -> tuple[Shared, pl.Series]:
    """The answers of all ticks, in their order, as those to a bucket's lists and candidates."""
    return (
        Shared(
            pl.concat(answer.shared.lists for answer in answers),
            pl.concat(answer.shared.candidates for answer in answers),
        ),
        pl.concat(answer.expected for answer in answers)["expected"],
    )
