"""A slice's features and moment state by many workers: users in buckets, global counters in one task.

Each step is a set of tasks. Any worker may run a task, and run it again: it reads files of earlier steps and writes
its own.

    partition       a chunk of the slice's rows  → the rows of each bucket of users
    attribute       a bucket of users            → its impressions and attributed interactions, without user ids
    count_global    one task                     → the global counters, and what each bucket looks up in them
    advance_bucket  a bucket of users            → its features and its part of the state

`count_global` adds in the order of a single process, so buckets do not change a bit of the result. It is a small part
of the work: user counters and the arithmetic of the columns are left to the buckets.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import polars as pl

from features.behaviour import Answers, advance, lookup_and_update, lookup_globals
from features.buckets import bucket as bucket_of
from features.config.project import Project
from features.ranking_dataset import labelled
from features.state import OWN, SHARED, MomentState, SliceEvents, counters, is_global, restore, start
from features.state.histories import explode
from pipelines.compute.engine import Engine
from pipelines.compute.scratch import Scratch
from pipelines.lake import SLICE, STATE, Lake, Part, WriteResult

FEATURES = "features"
_EVENTS = ("impressions", "interactions")


@dataclass(frozen=True)
class Work:
    """The work on one slice, as passed to every worker."""

    project: Project
    lake: Lake
    scratch: Scratch
    slice: str
    outputs: frozenset[str]
    """`features`, `moment_state` or both."""

    @property
    def buckets(self) -> int:
        """Number of user buckets."""
        return self.project.scale.buckets

    def draft(self, name: str, frame: pl.DataFrame, bucket: int = 0, buckets: int = 1) -> list[Part]:
        """Draft one bucket of a state table or of the features; an empty list if `outputs` lacks it."""
        if (FEATURES if name == FEATURES else STATE) not in self.outputs:
            return []
        table = name if name == FEATURES else f"{STATE}/{name}"
        return [self.lake.draft(table, self.slice, frame, bucket, buckets)]

    def state(self, tables: Mapping[str, pl.DataFrame]) -> MomentState:
        """The state at the slice's start from these tables; the others are empty."""
        return restore(self.project.slices.window(self.slice)[0], tables, self.project.behaviour)

    def before(self, name: str, bucket: int | None = None) -> pl.DataFrame:
        """A table of the state at the slice's start, or one bucket of its users."""
        previous, table = self.project.slices.previous(self.slice), f"{STATE}/{name}"
        if previous is None:
            return start(self.project.slices.start, self.project.behaviour).tables()[name]
        if bucket is None:
            return self.lake.read(table, [previous]).drop(SLICE)
        return self.lake.read_bucket(table, [previous], "user_id", bucket, self.buckets).drop(SLICE)

    def items(self, ids: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Versions of the items in `ids` (column `item_id`): those known before the slice, and the slice's own."""
        previous, empty = (
            self.project.slices.previous(self.slice),
            start(self.project.slices.start, self.project.behaviour).items.lazy(),
        )
        known = empty if previous is None else self.lake.scan_slice(f"{STATE}/items", previous)
        added = self.lake.scan_slice("items", self.slice)
        versions = [rows.join(ids.lazy(), on="item_id", how="semi").collect() for rows in (known, added)]
        return versions[0], versions[1]

    def vectors(self, ids: pl.DataFrame | None = None) -> pl.DataFrame:
        """Text vectors of every item version up to the slice; with `ids`, of these items only."""
        slices = [key for key in self.lake.slices("item_vectors") if key <= self.slice]
        if ids is None:
            return self.lake.read("item_vectors", slices).drop(SLICE)
        rows = self.lake.scan("item_vectors", slices).drop(SLICE)
        return rows.join(ids.lazy(), on="item_id", how="semi").collect()

    def chunk(self, name: str, chunk: int, chunks: int) -> pl.DataFrame:
        """One of `chunks` equal parts of the slice's rows of a table."""
        rows = self.lake.scan_slice(name, self.slice)
        height = rows.select(pl.len()).collect().item()
        first, end = (height * n // chunks for n in (chunk, chunk + 1))
        return rows.slice(first, end - first).collect()


@dataclass(frozen=True)
class Published:
    """A published slice of a table."""

    written: WriteResult
    size: int
    """Total bytes of its files."""


def make(work: Work, engine: Engine) -> dict[str, Published]:
    """Compute the slice's `outputs` and publish them, table by table. Removes the scratch folder before and after.

    Only one run may work on a slice at a time: it deletes the scratch that a killed run left behind.
    """
    work.scratch.remove()
    # A unique folder: a lost worker of the killed run may still write to the old one.
    own = replace(work, scratch=replace(work.scratch, root=f"{work.scratch.root}/{uuid.uuid4()}"))
    try:
        return publish(work, shuffle(own, engine))
    finally:
        work.scratch.remove()


def publish(work: Work, parts: Sequence[Part]) -> dict[str, Published]:
    """Publish the drafted parts, each table at once."""
    tables: dict[str, list[Part]] = {}
    for part in parts:
        tables.setdefault(part.table, []).append(part)
    return {
        name: Published(work.lake.publish(name, work.slice, drafted), sum(part.size for part in drafted))
        for name, drafted in tables.items()
    }


def shuffle(work: Work, engine: Engine) -> list[Part]:
    """Run all steps in order and return the drafted parts of all tables."""
    buckets = range(work.buckets)
    engine.map(partial(partition, work), buckets)
    engine.map(partial(attribute, work), buckets)
    drafted = engine.map(partial(count_global, work), [0])
    drafted += engine.map(partial(advance_bucket, work), buckets)
    return [part for parts in drafted for part in parts]


def partition(work: Work, chunk: int) -> None:
    """Split a chunk of the slice's rows into the buckets of users."""
    parts = {
        name: in_buckets(work.chunk(name, chunk, work.buckets), "user_id", work.buckets) for name in _EVENTS
    }
    for bucket in range(work.buckets):
        work.scratch.write(
            f"partition/{bucket}/{chunk}", {name: part[bucket] for name, part in parts.items()}
        )


def attribute(work: Work, bucket: int) -> None:
    """A bucket's impressions, and its interactions attributed to impressions, both without user ids."""
    from features.state.layout import code, place

    events = _events(work, bucket, start(work.project.slices.start, work.project.behaviour).items)
    state = work.state({"shown": work.before("shown", bucket)})
    interactions = place(state, events, code(events.impressions, state.counted))
    impressions = events.impressions.select("impression_id", "shown_at", "context", "candidates")
    frames = {"impressions": impressions, "interactions": interactions.drop("user_id")}
    work.scratch.write(f"attributed/{bucket}", frames)


def count_global(work: Work, _: int) -> list[Part]:
    """Global counters: write each bucket's lookups to scratch, and draft the counters at the slice's end."""
    names = [grain for grain, counter in counters(work.project.behaviour).items() if is_global(counter)]
    state = work.state({name: work.before(name) for name in (*names, *SHARED)})
    impressions, interactions = (
        pl.concat(
            work.scratch.read(f"attributed/{n}", name).with_columns(bucket=n) for n in range(work.buckets)
        )
        for name in _EVENTS
    )
    impressions = impressions.sort("shown_at", "impression_id")
    interactions = interactions.sort("known_at", "interaction_id").drop("bucket")
    items = work.lake.read("items", [work.slice]).drop(SLICE)
    until = work.project.slices.window(work.slice)[1]
    events = SliceEvents(items, impressions.drop("bucket"), pl.DataFrame())
    answers, after = lookup_globals(state, events, interactions, until, work.vectors())
    candidate_bucket = impressions["bucket"].gather(
        pl.int_range(impressions.height, eager=True)
        .repeat_by(impressions["candidates"].list.len())
        .explode(empty_as_null=False)
    )
    for bucket in range(work.buckets):
        of_bucket, candidates = impressions["bucket"] == bucket, candidate_bucket == bucket
        frames = {
            "impressions": answers.by_list.filter(of_bucket),
            "candidates": answers.by_candidate.filter(candidates),
            "expected": answers.expected.filter(candidates).to_frame(),
        }
        work.scratch.write(f"lookups/{bucket}", frames)
    tables = {name: after.stored(name) for name in names} | {name: getattr(after, name) for name in SHARED}
    return [part for name, table in tables.items() for part in work.draft(name, table)]


def advance_bucket(work: Work, bucket: int) -> list[Part]:
    """Draft the features of a bucket of users, and their part of the state at the slice's end."""
    impressions, candidates, expected = (
        work.scratch.read(f"lookups/{bucket}", name) for name in ("impressions", "candidates", "expected")
    )
    answers = Answers(impressions, candidates, expected["expected"])
    own = [grain for grain, counter in counters(work.project.behaviour).items() if not is_global(counter)]
    tables = {name: work.before(name, bucket) for name in (*own, *OWN)}
    events = _events(work, bucket, start(work.project.slices.start, work.project.behaviour).items)
    with_items = [explode(events.impressions), events.interactions, tables["open"], tables["moments"]]
    ids = pl.concat(rows.select("item_id") for rows in with_items).unique()
    known, added = work.items(ids)
    state, events = work.state(tables | {"items": known}), replace(events, items=added)
    until, drafted = work.project.slices.window(work.slice)[1], list[Part]()
    if FEATURES in work.outputs:
        features, after = lookup_and_update(state, events, until, work.vectors(ids), answers)
        drafted += work.draft(FEATURES, features, bucket, work.buckets)
    else:
        after = advance(state, events, until, answers.expected)
    for name in own:
        drafted += work.draft(name, after.stored(name), bucket, work.buckets)
    for name in OWN:
        drafted += work.draft(name, getattr(after, name), bucket, work.buckets)
    return drafted


def in_buckets(frame: pl.DataFrame, key: str, buckets: int) -> list[pl.DataFrame]:
    """Split a frame into buckets by column `key`, each with its rows in order."""
    parts = frame.with_columns(__part=bucket_of(frame[key], buckets)).partition_by(
        "__part", include_key=False, as_dict=True, maintain_order=True
    )
    return [parts.get((part,), frame.clear()) for part in range(buckets)]


def _events(work: Work, bucket: int, items: pl.DataFrame) -> SliceEvents:
    impressions, interactions = (
        pl.concat(work.scratch.read(f"partition/{bucket}/{chunk}", name) for chunk in range(work.buckets))
        for name in _EVENTS
    )
    return SliceEvents(
        items,
        labelled(impressions).sort("shown_at", "impression_id"),
        interactions.sort("known_at", "interaction_id"),
    )
