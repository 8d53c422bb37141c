"""A tick of everybody: what it adds to the counters that all share, and what it reads of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise

import polars as pl

from features.behaviour import Shared, read_shared
from features.counter import Counter
from features.decay import added
from features.facts import Facts
from features.project import Project
from features.shuffle.people import Answers, Told
from features.shuffle.ticks import Ticks
from features.state import SliceEvents, counters, shared, start


@dataclass(frozen=True)
class Crowd(Facts):
    """Facts of one tick, of what all buckets told it. It knows of nobody who they are."""

    told: pl.DataFrame

    @cached_property
    def placed(self) -> pl.DataFrame:
        """See `Occurrences.placed`; the buckets found it out."""
        return self.told


def crowd(
    told: list[Told],
    starts: Mapping[str, pl.DataFrame],
    items: tuple[pl.DataFrame, pl.DataFrame],
    project: Project,
    ticks: Ticks,
    tick: int,
) -> Crowd:
    """A tick's facts, bucket after bucket.

    `starts`: by shared grain, totals at the tick's start of the keys that it has; grains left out count as empty.
    `items`: versions known before the slice, and within it, of the items that it has (`schemas.Items`).
    """
    nobody = pl.lit("").alias("user_id")
    known, fresh = items
    lists = pl.concat(part.lists for part in told).with_columns(
        nobody, impression_id=pl.lit(""), session_id=pl.lit(None, pl.String)
    )
    empty = start(project)
    state = replace(empty, at=ticks.window(tick)[0], totals={**empty.totals, **starts}, items=known)
    done = pl.concat(part.done for part in told).with_columns(nobody)
    return Crowd(state, SliceEvents(fresh, lists, pl.DataFrame()), project, done)


def scanned(project: Project) -> dict[str, Counter]:
    """The shared counters, but for that of positions, which the others are made with."""
    declared = counters(project).items()
    return {grain: counter for grain, counter in declared if shared(counter) and grain != "position"}


def add(facts: Crowd, ticks: Ticks, tick: int) -> dict[str, pl.DataFrame]:
    """What the tick adds to each of `scanned`: a row a key, with the tick's start as `at`, for `decay.scan`."""
    found = {}
    for grain, counter in scanned(facts.project).items():
        sums = added(facts.of(grain), counter, ticks.since, *ticks.window(tick))
        found[grain] = ticks.stamp(sums.cast({pl.Categorical: pl.String}), tick)
    return found


def reply(facts: Crowd, told: list[Told]) -> list[Answers]:
    """The answers to each bucket, in the order of `told`."""
    found, expected = read_shared(facts), facts.expected.to_frame("expected")
    lists = [part.lists.height for part in told]
    candidates = [int(part.lists["candidates"].list.len().sum()) for part in told]
    return [
        Answers(
            Shared(found.lists[a:b], found.candidates[c:d]),
            expected[c:d],
        )
        for (a, b), (c, d) in zip(_spans(lists), _spans(candidates), strict=True)
    ]


def _spans(sizes: list[int]) -> Iterable[tuple[int, int]]:
    """First row, and the row after the last, of parts that stand one after the other."""
    return pairwise(accumulate(sizes, initial=0))
