"""The features of each candidate, read from the moment state just before its impression."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import polars as pl
import polars.selectors as cs

from features.advance import advanced
from features.catalogue import catalogue, features
from features.decay import answer, read
from features.facts import Facts
from features.families.feature import Feature
from features.lists import relative
from features.moments import moments
from features.project import Project
from features.sessions import sessions
from features.similarity import COLUMNS as TEXT_COLUMNS
from features.similarity import text_similarity
from features.state import MomentState, SliceEvents, counters

ROWS_AT_ONCE = 2_000_000
"""Candidates read in one go; a busier slice is read in stretches, the state advanced between them."""


@dataclass(frozen=True)
class Shared:
    """What the counters that everybody adds to held just before each list, in full precision."""

    lists: pl.DataFrame
    """`everything:{counter}`, a row a list."""
    candidates: pl.DataFrame
    """`item:{counter}`, `{grain}:{attribute}:{counter}`, a row a candidate."""


def read_features(
    state: MomentState, events: SliceEvents, project: Project, vectors: pl.DataFrame
) -> pl.DataFrame:
    """Features of every candidate of the slice's impressions, in the order shown.

    `state` holds what was known before the slice; `events` what became known within it; a row uses only what
    was known strictly before its impression. `vectors`: `schemas.ItemVectors`. Returns impression_id, item_id and
    one Float32 column for each name of the project's `catalogue`.
    """
    return pl.concat(frame for _, frame in _read(state, events, project, vectors))


def read_and_advance(
    state: MomentState, events: SliceEvents, until: datetime, project: Project, vectors: pl.DataFrame
) -> tuple[pl.DataFrame, MomentState]:
    """`read_features`, and what `advance` makes of the same events: they are laid out once for both."""
    frames = []
    for facts, frame in _read(state, events, project, vectors):
        frames.append(frame)
        last = facts
    return pl.concat(frames), advanced(last, until)


def _read(
    state: MomentState, events: SliceEvents, project: Project, vectors: pl.DataFrame
) -> Iterator[tuple[Facts, pl.DataFrame]]:
    """Facts of each stretch of the events, and its features."""
    for facts in _stretches(state, events, project):
        yield facts, table(facts, vectors)


def table(facts: Facts, vectors: pl.DataFrame, shared: Shared | None = None) -> pl.DataFrame:
    """What `read_features` returns, of events that are laid out already. `shared`: `read_shared`, unless given."""
    names, compared = _columns(facts.project)
    wide = relative(measure(facts, vectors, _bases(names, compared), shared), compared)
    return wide.select("impression_id", "item_id", pl.col(names).cast(pl.Float32))


def _columns(project: Project) -> tuple[list[str], dict[str, list[str]]]:
    """Names of the table's columns, and of those compared in each form."""
    names = catalogue(project)["name"].to_list()
    columns = [(form, f) for form in project.features.relative for f in features(project) if f.compared]
    return names, {
        form: [f.name for other, f in columns if other == form and f"{f.name}_{form}" in names]
        for form in project.features.relative
    }


def _bases(names: list[str], compared: dict[str, list[str]]) -> set[str]:
    return {*names, *(name for bases in compared.values() for name in bases)}


def measure(
    facts: Facts, vectors: pl.DataFrame, wanted: set[str], shared: Shared | None = None
) -> pl.DataFrame:
    """impression_id, item_id and the `wanted` of `features(project)` in full precision, row for row as shown."""
    chosen, needed = _needed(facts.project, wanted)
    shared = shared or _of_shared(facts, needed)
    lists = pl.concat([_of_lists(facts, needed), shared.lists], how="horizontal")
    pieces = [
        facts.shown.select("impression_id", "item_id", "version"),
        lists[facts.shown["list"]],
        shared.candidates,
        _counted(facts, "user_item", needed),
        *_of_all_values(facts, ("user_attribute", "list"), needed),
        *_of_texts(facts, needed, vectors),
    ]
    frame = pl.concat(pieces, how="horizontal").join(
        _of_versions(facts, needed), on="version", how="left", maintain_order="left"
    )
    return frame.select("impression_id", "item_id", *(f.value.alias(f.name) for f in chosen))


def _needed(project: Project, wanted: set[str]) -> tuple[list[Feature], set[str]]:
    """The wanted features, and the columns that they are made of."""
    chosen = [feature for feature in features(project) if feature.name in wanted]
    return chosen, {name for feature in chosen for name in feature.value.meta.root_names()}


def read_shared(facts: Facts) -> Shared:
    """What the table's columns need of the counters that everybody adds to."""
    _, needed = _needed(facts.project, _bases(*_columns(facts.project)))
    return _of_shared(facts, needed)


def _of_shared(facts: Facts, needed: set[str]) -> Shared:
    values = _of_all_values(facts, ("attribute", "context", "item_context"), needed)
    return Shared(
        _counted(facts, "everything", needed),
        pl.concat([_counted(facts, "item", needed), *values], how="horizontal"),
    )


def _named(needed: set[str], prefix: str) -> set[str]:
    """Those of the needed columns that stand under a prefix, without it."""
    return {name.removeprefix(f"{prefix}:") for name in needed if name.startswith(f"{prefix}:")}


def _counted(facts: Facts, grain: str, needed: set[str]) -> pl.DataFrame:
    """`{grain}:{counter}` of each list or candidate, as far as needed."""
    wanted = _named(needed, grain)
    if not wanted:
        return pl.DataFrame()
    counter = counters(facts.project)[grain]
    found = answer(facts.state.totals[grain], facts.of(grain), counter, facts.state.at, wanted)
    return _prefixed(found, grain)


def _prefixed(found: pl.DataFrame, prefix: str) -> pl.DataFrame:
    return found.rename({name: f"{prefix}:{name}" for name in found.columns})


def _of_lists(facts: Facts, needed: set[str]) -> pl.DataFrame:
    """What is the same for all of a user's list: time, size, counts of the user, their session and tastes."""
    lists = facts.lists
    pieces = [lists.select("list", "as_of", "size")]
    pieces.append(_counted(facts, "user", needed))
    if _named(needed, "session"):
        pieces.append(_prefixed(sessions(facts), "session"))
    pieces += _tastes(facts, lists, needed)
    return pl.concat(pieces, how="horizontal")


def _tastes(facts: Facts, lists: pl.DataFrame, needed: set[str]) -> Iterator[pl.DataFrame]:
    """`taste:{attribute}:{counter}`, a row a list: how the user's clicks fall on each attribute's values."""
    names = [name for name in facts.project.items.categorical if _named(needed, f"taste:{name}")]
    if names:
        asked = pl.concat([lists.with_columns(attribute=pl.lit(name)) for name in names])
        counter = counters(facts.project)["taste"]
        found = read(
            facts.state.totals["taste"],
            facts.of("taste"),
            asked,
            counter,
            facts.state.at,
        )
        for place, name in enumerate(names):
            yield _prefixed(found.slice(place * lists.height, lists.height), f"taste:{name}")


def _of_all_values(facts: Facts, grains: tuple[str, ...], needed: set[str]) -> list[pl.DataFrame]:
    """Of grains that a candidate meets once a value, those needed: their numbers are summed over its values."""
    return [_of_values(facts, grain, needed) for grain in grains if _named(needed, grain)]


def _of_values(facts: Facts, grain: str, needed: set[str]) -> pl.DataFrame:
    """`{grain}:{attribute}:{counter}`, a row a candidate: sums over its values of the attribute, 0 over none.

    Beside the counters: `taken`, its values that were ever clicked; the latest of instants.
    """
    by: Literal["attribute", "context"] = "context" if "context" in grain else "attribute"
    asking = facts.asking(by)
    declared = facts.project.context if by == "context" else facts.project.items
    # From the right: an attribute may be called `og:type`.
    wanted = {name.rpartition(":")[2] for name in _named(needed, grain)}
    if grain == "list":
        found = _sharing(asking, facts.shown["list"])
    else:
        counted = wanted - {"taken"} | ({"clicks_all"} if "taken" in wanted else set())
        counter = counters(facts.project)[grain]
        found = answer(facts.state.totals[grain], facts.of(grain), counter, facts.state.at, counted)
    if "taken" in wanted:
        found = found.with_columns(taken=(pl.col("clicks_all") > 0).cast(pl.Float64))
    # Sorted: other processes, whose frames are put together with this one, order sets otherwise.
    told = pl.concat([asking.select("candidate", by), found.select(sorted(wanted))], how="horizontal")
    pieces = [
        _prefixed(
            _per_candidate(told.filter(pl.col(by) == name).drop(by), facts),
            f"{grain}:{name}",
        )
        for name in declared.categorical
    ]
    return pl.concat(pieces, how="horizontal")


def _per_candidate(valued: pl.DataFrame, facts: Facts) -> pl.DataFrame:
    """Sums of numbers and the latest of instants, a row a candidate; 0 and null where it has no value."""
    candidates = facts.shown.select(candidate=pl.int_range(pl.len()))
    if (valued["candidate"] == valued["candidate"].shift(1)).any():
        valued = valued.group_by("candidate", maintain_order=True).agg(cs.float().sum(), cs.datetime().max())
    found = candidates.join(valued, on="candidate", how="left", maintain_order="left").drop("candidate")
    return found.with_columns(cs.float().fill_null(0.0))


def _sharing(asking: pl.DataFrame, lists: pl.Series) -> pl.DataFrame:
    """Of each candidate's value: how many of the list have it, and its part in the list's count of values."""
    named, value = (pl.col(name).to_physical().cast(pl.UInt64) for name in ("attribute", "value"))
    # One integer for list, attribute and value: counting by three columns takes several times as long.
    number = (pl.col("list").cast(pl.UInt64) * (named.max() + 1) + named) * (value.max() + 1) + value
    key = asking.with_columns(list=lists[asking["candidate"]]).select(key=number)
    shared = pl.len().over("key").cast(pl.Float64)
    return key.select(shared=shared, distinct=1.0 / shared)


def _of_versions(facts: Facts, needed: set[str]) -> pl.DataFrame:
    """What each item version says: declared numbers, age, words, values of each attribute."""
    counts = facts.values.group_by("version", "attribute").len()
    numbers = _prefixed(facts.numbers.drop("version"), "number")
    described = facts.versions.with_row_index("version").select(
        "version",
        *numbers.get_columns(),
        born_at=pl.coalesce("published_at", "known_at"),
        title_words=pl.col("title").str.count_matches(r"\S+").cast(pl.Float64),
        body_words=pl.col("body").fill_null("").str.count_matches(r"\S+").cast(pl.Float64),
    )
    for name in _named(needed, "values"):
        own = counts.filter(pl.col("attribute") == name).select(
            "version", pl.col("len").alias(f"values:{name}")
        )
        described = described.join(own, on="version", how="left", maintain_order="left").with_columns(
            pl.col(f"values:{name}").fill_null(0).cast(pl.Float64)
        )
    return described


def _of_texts(facts: Facts, needed: set[str], vectors: pl.DataFrame) -> Iterator[pl.DataFrame]:
    if not needed.isdisjoint(TEXT_COLUMNS):
        past, declared = (
            moments(facts.state, facts.events, facts.project),
            facts.project.features,
        )
        yield text_similarity(
            facts.shown,
            past,
            facts.versions,
            vectors,
            declared.recent,
            declared.forget_after,
        )


def _stretches(state: MomentState, events: SliceEvents, project: Project) -> Iterator[Facts]:
    """The events, laid out in stretches of about ROWS_AT_ONCE candidates, each after the state before it."""
    sizes = events.impressions.sort("shown_at").select(
        "shown_at", size=pl.col("candidates").list.len().cum_sum()
    )
    busy = sizes.with_columns(stretch=(pl.col("size") - 1) // ROWS_AT_ONCE)
    cuts = busy.group_by("stretch").agg(pl.col("shown_at").min()).sort("stretch")["shown_at"].unique().sort()
    rest = events
    for until in cuts[1:]:
        part, rest = _cut(rest, until)
        facts = Facts(state, part, project)
        yield facts
        state = advanced(facts, until)
    yield Facts(state, rest, project)


def _cut(events: SliceEvents, at: datetime) -> tuple[SliceEvents, SliceEvents]:
    tables = (
        (events.items, "known_at"),
        (events.impressions, "shown_at"),
        (events.interactions, "known_at"),
    )
    return (
        SliceEvents(*(table.filter(pl.col(column) < at) for table, column in tables)),
        SliceEvents(*(table.filter(pl.col(column) >= at) for table, column in tables)),
    )
