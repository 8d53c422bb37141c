"""A slice's features and moment state, made in buckets of people and ticks of time by many workers.

Each step is a task that any worker may do, and do again: it reads files of the steps before it and writes its own.

    cut        a chunk of the slice's rows               → rows of each bucket of people
    tell       a bucket of people                        → what each tick is told of them
    add        a tick                                    → its sums, by bucket of keys
    put        a bucket of keys                          → totals at each tick's start, and at the slice's end
    answer     a tick                                    → what each bucket of people asked
    remember   a bucket of people                        → their features and their part of the state

Two of these hand on every row: `cut`, and `answer` through `tell`. Of a key, however often it was met, one row a tick
travels. What is computed is in `features/shuffle`.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import polars as pl

from features.advance import advanced
from features.behaviour import Shared, table
from features.decay import scan
from features.facts import Facts
from features.project import Project
from features.shuffle import crowd as crowds
from features.shuffle import people
from features.shuffle.ticks import Ticks, bucket_key, in_buckets
from features.state import MomentState, SliceEvents, counters, shared, start
from features.versions import latest, versions
from pipelines.deployment import STATE
from pipelines.engine import Engine
from pipelines.lake import SLICE, Lake, Part, WriteResult
from pipelines.work.scratch import Scratch

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
        """Of people, and of keys."""
        return self.project.scale.buckets

    @property
    def ticks(self) -> Ticks:
        """The slice's time."""
        return Ticks(*self.project.slices.window(self.slice), self.project.scale.tick)

    def draft(
        self, name: str, frame: pl.DataFrame, bucket: int = 0, buckets: int | None = None
    ) -> list[Part]:
        """A part of a table of the state, or of the features; nothing where that is not wanted."""
        if (FEATURES if name == FEATURES else STATE) not in self.wanted:
            return []
        place = name if name == FEATURES else f"{STATE}/{name}"
        return [self.lake.draft(place, self.slice, frame, bucket, buckets or self.buckets)]

    def before(self, name: str, key: str, bucket: int) -> pl.DataFrame:
        """A bucket of a table of the state at the slice's start."""
        previous = self.project.slices.previous(self.slice)
        if previous is None:
            return start(self.project).tables()[name]
        found = self.lake.read_bucket(f"{STATE}/{name}", [previous], key, bucket, self.buckets)
        return found.drop(SLICE)

    def items(self, met: pl.DataFrame, *, texts: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Versions known before the slice, and within it, of some items; with `texts`, or these left blank."""
        previous, nothing = self.project.slices.previous(self.slice), start(self.project).items.lazy()
        known = nothing if previous is None else self.lake.scan_slice(f"{STATE}/items", previous)
        return self._of(known, met, texts), self._of(self.lake.scan_slice("items", self.slice), met, texts)

    def _of(self, rows: pl.LazyFrame, met: pl.DataFrame, texts: bool) -> pl.DataFrame:
        blank = [] if texts else [pl.lit("").alias("title"), pl.lit(None, pl.String).alias("body")]
        return rows.with_columns(blank).join(met.lazy(), on="item_id", how="semi").collect()

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
    sizes = engine.map(partial(tell, work), buckets)
    # Of ticks in which nothing happened nothing is asked; one there must be, for an empty slice.
    busy = [tick for tick, told in enumerate(zip(*sizes, strict=True)) if any(told)] or [0]
    found = put_positions(work)
    engine.map(partial(add, work), busy)
    found += [part for parts in engine.map(partial(put, work, busy), buckets) for part in parts]
    engine.map(partial(answer, work), busy)
    found += [part for parts in engine.map(partial(remember, work, busy), buckets) for part in parts]
    return found


def cut(work: Work, chunk: int) -> None:
    """A chunk of the slice's rows, for each bucket of people."""
    parts = {
        name: in_buckets(work.chunk(name, chunk, work.buckets), "user_id", work.buckets) for name in _EVENTS
    }
    for bucket in range(work.buckets):
        work.scratch.write(f"cut/{bucket}/{chunk}", {name: part[bucket] for name, part in parts.items()})


def tell(work: Work, bucket: int) -> list[int]:
    """What a bucket of people tells each tick; how many rows that is."""
    shown = work.before("shown", "user_id", bucket)
    empty = start(work.project)
    # Of items nothing is read yet.
    state = replace(empty, at=work.ticks.since, shown=shown)
    facts = Facts(state, _events(work, bucket, empty.items), work.project)
    told = people.tell(facts, work.ticks)
    for tick, part in enumerate(told):
        work.scratch.write(f"told/{tick}/{bucket}", {"lists": part.lists, "done": part.done})
    work.scratch.write(f"positions/{bucket}", {"sums": people.tell_positions(facts, work.ticks)})
    return [part.lists.height + part.done.height for part in told]


def put_positions(work: Work) -> list[Part]:
    """Counts of each position at each tick's start, and at the slice's end: few, and found before all others."""
    sums = [work.scratch.read(f"positions/{bucket}", "sums") for bucket in range(work.buckets)]
    ticks, counter = work.ticks, counters(work.project)["position"]
    previous = work.project.slices.previous(work.slice)
    before = start(work.project).totals["position"]
    if previous is not None:
        before = work.lake.read(f"{STATE}/position", [previous]).drop(SLICE)
    found = scan(before, people.together(sums), counter, ticks.since, ticks.until)
    work.scratch.write("places", {"starts": found.starts})
    return work.draft("position", found.totals, 0, 1)


def add(work: Work, tick: int) -> None:
    """A tick's sums of each shared counter, for each bucket of its keys."""
    sums = crowds.add(_crowd(work, tick, _told(work, tick), {}), work.ticks, tick)
    declared = crowds.scanned(work.project)
    parts = {
        grain: in_buckets(sums[grain], bucket_key(counter), work.buckets)
        for grain, counter in declared.items()
    }
    for bucket in range(work.buckets):
        work.scratch.write(f"sums/{bucket}/{tick}", {grain: part[bucket] for grain, part in parts.items()})


def put(work: Work, busy: Sequence[int], bucket: int) -> list[Part]:
    """The sums of a bucket of keys one after the other: totals at each tick's start and at the slice's end."""
    ticks, parts = work.ticks, list[Part]()
    starts: dict[str, list[pl.DataFrame]] = {}
    for grain, counter in crowds.scanned(work.project).items():
        sums = pl.concat(work.scratch.read(f"sums/{bucket}/{tick}", grain) for tick in busy)
        before = work.before(grain, bucket_key(counter), bucket)
        found = scan(before, sums, counter, ticks.since, ticks.until)
        starts[grain] = ticks.cut(found.starts, "at")
        parts += work.draft(grain, found.totals, bucket)
    for tick in busy:
        work.scratch.write(f"starts/{tick}/{bucket}", {grain: cut[tick] for grain, cut in starts.items()})
    known = work.before("items", "item_id", bucket)
    fresh = work.lake.read_bucket("items", [work.slice], "item_id", bucket, work.buckets).drop(SLICE)
    return parts + work.draft("items", latest(versions(known, fresh)), bucket)


def answer(work: Work, tick: int) -> None:
    """What a tick answers each bucket of people."""
    starts = {
        grain: pl.concat(
            work.scratch.read(f"starts/{tick}/{bucket}", grain) for bucket in range(work.buckets)
        ).drop("at")
        for grain in crowds.scanned(work.project)
    }
    told = _told(work, tick)
    for bucket, found in enumerate(crowds.reply(_crowd(work, tick, told, starts), told)):
        frames = {
            "lists": found.shared.lists,
            "candidates": found.shared.candidates,
            "expected": found.expected,
        }
        work.scratch.write(f"answers/{bucket}/{tick}", frames)


def remember(work: Work, busy: Sequence[int], bucket: int) -> list[Part]:
    """The features of a bucket of people, and their part of the state at the slice's end."""
    found, expected = people.gather([_answers(work, bucket, tick) for tick in busy])
    own = {name: work.before(name, "user_id", bucket) for name in people.OWN}
    events = _events(work, bucket, start(work.project).items)
    met = people.items_of(events.impressions, events.interactions, own["open"], own["moments"])
    known, fresh = work.items(met, texts=True)
    totals = {
        grain: work.before(grain, "user_id", bucket)
        for grain, counter in counters(work.project).items()
        if not shared(counter)
    }
    state = MomentState(work.ticks.since, totals, known, **own)
    facts = people.Answered(state, replace(events, items=fresh), work.project, expected)
    parts = work.draft(FEATURES, table(facts, work.vectors(met), found), bucket) if _asked(work) else []
    after = advanced(facts, work.ticks.until).tables()
    for name in (*totals, *people.OWN):
        parts += work.draft(name, after[name], bucket)
    return parts


def _asked(work: Work) -> bool:
    return FEATURES in work.wanted


def _events(work: Work, bucket: int, items: pl.DataFrame) -> SliceEvents:
    impressions, interactions = (
        pl.concat(work.scratch.read(f"cut/{bucket}/{chunk}", name) for chunk in range(work.buckets))
        for name in _EVENTS
    )
    return people.in_order(SliceEvents(items, impressions, interactions))


def _told(work: Work, tick: int) -> list[people.Told]:
    names = [f"told/{tick}/{bucket}" for bucket in range(work.buckets)]
    return [people.Told(work.scratch.read(n, "lists"), work.scratch.read(n, "done")) for n in names]


def _crowd(work: Work, tick: int, told: list[people.Told], starts: dict[str, pl.DataFrame]) -> crowds.Crowd:
    met = people.items_of(pl.concat(part.lists for part in told), *(part.done for part in told))
    places = work.scratch.read("places", "starts").filter(pl.col("at") == _start(work, tick)).drop("at")
    items = work.items(met, texts=False)
    return crowds.crowd(told, {**starts, "position": places}, items, work.project, work.ticks, tick)


def _start(work: Work, tick: int) -> datetime:
    return work.ticks.window(tick)[0]


def _answers(work: Work, bucket: int, tick: int) -> people.Answers:
    name = f"answers/{bucket}/{tick}"
    lists, candidates, expected = (
        work.scratch.read(name, key) for key in ("lists", "candidates", "expected")
    )
    return people.Answers(Shared(lists, candidates), expected)
