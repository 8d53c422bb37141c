"""A slice's features and moment state, made by many workers: users in buckets, and what all add to by one of them.

Each step is a task that any worker may do, and do again: it reads files of the steps before it and writes its own.

    cut        a chunk of the slice's rows      → rows of each bucket of users
    tell       a bucket of users                → its lists, and where each interaction answers one, without the users
    count      everybody's, one task            → what the global counters answer each bucket, and these counters
    remember   a bucket of users                → their features and their part of the state

`count` adds up in the order in which one process would, so that buckets change no bit of the result. It takes a small
part of the work: the counters of users, and the arithmetic of the columns, are the buckets'.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import polars as pl

from features.behaviour import Answers, advance, lookup_and_update, lookup_globals
from features.buckets import bucket as bucket_of
from features.config.project import Project
from features.state import OWN, SHARED, MomentState, SliceEvents, counters, is_global, restore, start
from features.state.histories import explode
from pipelines.compute.engine import Engine
from pipelines.compute.scratch import Scratch
from pipelines.lake import SLICE, STATE, Lake, Part, WriteResult

FEATURES = "features"
_EVENTS = ("impressions", "interactions")


@dataclass(frozen=True)
class Work:
    """One slice's work, as every worker is told of it."""

    project: Project
    lake: Lake
    scratch: Scratch
    slice: str
    wanted: frozenset[str]
    """Of `features` and `moment_state`, those to be made."""

    @property
    def buckets(self) -> int:
        """Of users."""
        return self.project.scale.buckets

    def draft(self, name: str, frame: pl.DataFrame, bucket: int = 0, buckets: int = 1) -> list[Part]:
        """A part of a table of the state, or of the features; nothing where that is not wanted."""
        if (FEATURES if name == FEATURES else STATE) not in self.wanted:
            return []
        table = name if name == FEATURES else f"{STATE}/{name}"
        return [self.lake.draft(table, self.slice, frame, bucket, buckets)]

    def state(self, tables: Mapping[str, pl.DataFrame]) -> MomentState:
        """The state at the slice's start, of which some tables are given; the others are empty."""
        return restore(self.project.slices.window(self.slice)[0], tables, self.project)

    def before(self, name: str, bucket: int | None = None) -> pl.DataFrame:
        """A table of the state at the slice's start, or a bucket of users of it."""
        previous, table = self.project.slices.previous(self.slice), f"{STATE}/{name}"
        if previous is None:
            return start(self.project).tables()[name]
        if bucket is None:
            return self.lake.read(table, [previous]).drop(SLICE)
        return self.lake.read_bucket(table, [previous], "user_id", bucket, self.buckets).drop(SLICE)

    def items(self, met: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Versions of some items known before the slice, and within it."""
        previous, nothing = self.project.slices.previous(self.slice), start(self.project).items.lazy()
        known = nothing if previous is None else self.lake.scan_slice(f"{STATE}/items", previous)
        fresh = self.lake.scan_slice("items", self.slice)
        both = [rows.join(met.lazy(), on="item_id", how="semi").collect() for rows in (known, fresh)]
        return both[0], both[1]

    def vectors(self, met: pl.DataFrame) -> pl.DataFrame:
        """Text vectors of some items, of every version up to the slice."""
        kept = [key for key in self.lake.slices("item_vectors") if key <= self.slice]
        rows = self.lake.scan("item_vectors", kept).drop(SLICE)
        return rows.join(met.lazy(), on="item_id", how="semi").collect()

    def chunk(self, name: str, chunk: int, chunks: int) -> pl.DataFrame:
        """One of as many parts of a table's rows in the slice."""
        rows = self.lake.scan_slice(name, self.slice)
        height = rows.select(pl.len()).collect().item()
        first, end = (height * n // chunks for n in (chunk, chunk + 1))
        return rows.slice(first, end - first).collect()


@dataclass(frozen=True)
class Made:
    """A table's slice, as it was published."""

    written: WriteResult
    size: int
    """Bytes of its files."""


def make(work: Work, engine: Engine) -> dict[str, Made]:
    """Make what is wanted of a slice and publish it, table by table. The scratch is removed.

    One run at a time makes a slice: of another, that was killed, the scratch is removed first.
    """
    work.scratch.remove()
    # A name of its own: what a lost worker of that run still writes is not found.
    mine = replace(work, scratch=replace(work.scratch, root=f"{work.scratch.root}/{uuid.uuid4()}"))
    try:
        return publish(work, shuffle(mine, engine))
    finally:
        work.scratch.remove()


def publish(work: Work, parts: Sequence[Part]) -> dict[str, Made]:
    """Let every table's parts be seen."""
    tables: dict[str, list[Part]] = {}
    for part in parts:
        tables.setdefault(part.table, []).append(part)
    return {
        name: Made(work.lake.publish(name, work.slice, drafted), sum(part.size for part in drafted))
        for name, drafted in tables.items()
    }


def shuffle(work: Work, engine: Engine) -> list[Part]:
    """All steps, one after the other; the drafted parts of all tables."""
    buckets = range(work.buckets)
    engine.map(partial(cut, work), buckets)
    engine.map(partial(tell, work), buckets)
    (found,) = engine.map(partial(count, work), [0])
    return [*found, *(part for parts in engine.map(partial(remember, work), buckets) for part in parts)]


def cut(work: Work, chunk: int) -> None:
    """A chunk of the slice's rows, for each bucket of users."""
    parts = {
        name: in_buckets(work.chunk(name, chunk, work.buckets), "user_id", work.buckets) for name in _EVENTS
    }
    for bucket in range(work.buckets):
        work.scratch.write(f"cut/{bucket}/{chunk}", {name: part[bucket] for name, part in parts.items()})


def tell(work: Work, bucket: int) -> None:
    """What a bucket's users were shown and did, without the users."""
    from features.state.layout import code, place

    events = _events(work, bucket, start(work.project).items)
    state = work.state({"shown": work.before("shown", bucket)})
    done = place(state, events, code(events.impressions, state.counted), work.project)
    lists = events.impressions.select("impression_id", "shown_at", "context", "candidates")
    work.scratch.write(f"told/{bucket}", {"lists": lists, "done": done.drop("user_id")})


def count(work: Work, _: int) -> list[Part]:
    """The global counters of the slice: what they answer each bucket, and their tables at its end."""
    names = [grain for grain, counter in counters(work.project).items() if is_global(counter)]
    state = work.state({name: work.before(name) for name in (*names, *SHARED)})
    lists, done = (
        pl.concat(work.scratch.read(f"told/{n}", name).with_columns(bucket=n) for n in range(work.buckets))
        for name in ("lists", "done")
    )
    lists, done = lists.sort("shown_at", "impression_id"), done.sort("known_at", "interaction_id")
    fresh = work.lake.read("items", [work.slice]).drop(SLICE)
    until = work.project.slices.window(work.slice)[1]
    events = SliceEvents(fresh, lists.drop("bucket"), pl.DataFrame())
    every = work.lake.slices("item_vectors")
    vectors = work.lake.read("item_vectors", [key for key in every if key <= work.slice]).drop(SLICE)
    answers, after = lookup_globals(state, events, done.drop("bucket"), until, work.project, vectors)
    of_candidate = lists["bucket"].gather(
        pl.int_range(lists.height, eager=True)
        .repeat_by(lists["candidates"].list.len())
        .explode(empty_as_null=False)
    )
    for bucket in range(work.buckets):
        mine, theirs = lists["bucket"] == bucket, of_candidate == bucket
        frames = {
            "lists": answers.by_list.filter(mine),
            "candidates": answers.by_candidate.filter(theirs),
            "expected": answers.expected.filter(theirs).to_frame(),
        }
        work.scratch.write(f"answers/{bucket}", frames)
    tables = {name: after.stored(name) for name in names} | {name: getattr(after, name) for name in SHARED}
    return [part for name, table in tables.items() for part in work.draft(name, table)]


def remember(work: Work, bucket: int) -> list[Part]:
    """The features of a bucket of users, and their part of the state at the slice's end."""
    lists, candidates, expected = (
        work.scratch.read(f"answers/{bucket}", name) for name in ("lists", "candidates", "expected")
    )
    given = Answers(lists, candidates, expected["expected"])
    own = [grain for grain, counter in counters(work.project).items() if not is_global(counter)]
    tables = {name: work.before(name, bucket) for name in (*own, *OWN)}
    events = _events(work, bucket, start(work.project).items)
    shown = explode(events.impressions)
    parts = [shown, events.interactions, tables["open"], tables["moments"]]
    met = pl.concat(rows.select("item_id") for rows in parts).unique()
    known, fresh = work.items(met)
    state, events = work.state(tables | {"items": known}), replace(events, items=fresh)
    until, drafted = work.project.slices.window(work.slice)[1], list[Part]()
    if FEATURES in work.wanted:
        features, after = lookup_and_update(state, events, until, work.project, work.vectors(met), given)
        drafted += work.draft(FEATURES, features, bucket, work.buckets)
    else:
        after = advance(state, events, until, work.project, given.expected)
    for name in own:
        drafted += work.draft(name, after.stored(name), bucket, work.buckets)
    for name in OWN:
        drafted += work.draft(name, getattr(after, name), bucket, work.buckets)
    return drafted


def in_buckets(frame: pl.DataFrame, key: str, buckets: int) -> list[pl.DataFrame]:
    """Rows of each bucket of column `key`, in their order."""
    parts = frame.with_columns(__part=bucket_of(frame[key], buckets)).partition_by(
        "__part", include_key=False, as_dict=True, maintain_order=True
    )
    return [parts.get((part,), frame.clear()) for part in range(buckets)]


def _events(work: Work, bucket: int, items: pl.DataFrame) -> SliceEvents:
    impressions, interactions = (
        pl.concat(work.scratch.read(f"cut/{bucket}/{chunk}", name) for chunk in range(work.buckets))
        for name in _EVENTS
    )
    return SliceEvents(
        items,
        impressions.sort("shown_at", "impression_id"),
        interactions.sort("known_at", "interaction_id"),
    )
