"""Problems of a log as a whole that no single refused row shows, and the setting that fixes each."""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from features.config.sections import Labels, TableMapping
from features.config.slices import Slices
from features.events.labels import attribute
from features.events.validation import Events
from features.sources.raw import RawEvents

MAX_REFUSED = 0.1
"""Share of refused rows above which a log is reported."""
MIN_MATCHED = 0.1
"""Share of interactions or ids with a match below which a log is reported."""
_MINUTE = "%Y-%m-%d %H:%M"


@dataclass(frozen=True)
class Problem:
    """One or two sentences for a person. `fatal`: the log cannot be trained on."""

    text: str
    fatal: bool


@dataclass(frozen=True)
class Read:
    """Counts of a log's rows, kept or refused."""

    interactions: int = 0
    impressions: int = 0
    """Impressions with a time."""
    outside: int = 0
    """Impressions outside the slices."""
    first_at: datetime | None = None
    last_at: datetime | None = None

    @staticmethod
    def of(raw: RawEvents, slices: Slices) -> "Read":
        """Count some rows."""
        times = raw.impressions["shown_at"].drop_nulls()
        outside = (times < slices.start) | (times >= slices.end if slices.end else False)
        first, last = (times.sort().gather([0, -1]).to_list()) if len(times) else (None, None)
        return Read(raw.interactions.height, len(times), int(outside.sum()), first, last)

    def __add__(self, other: "Read") -> "Read":
        firsts, lasts = (
            (one, two) for one, two in ((self.first_at, other.first_at), (self.last_at, other.last_at))
        )
        return Read(
            self.interactions + other.interactions,
            self.impressions + other.impressions,
            self.outside + other.outside,
            min((at for at in firsts if at), default=None),
            max((at for at in lasts if at), default=None),
        )


def find_problems(
    read: Read, events: Events, mapping: TableMapping | None, slices: Slices, labels: Labels
) -> list[Problem]:
    """Problems of a log, fatal ones first; empty if it is ready for a run. `mapping`: `[source.tables]`, if any."""
    problems = [
        *_empty_tables(read, events, mapping),
        *_outside_slices(read, slices),
        *_many_refused(events),
        *_single_candidates(events, mapping),
        *_few_labels(events, labels),
        *_unknown_items(events, mapping),
    ]
    return sorted(problems, key=lambda problem: not problem.fatal)


def _empty_tables(read: Read, events: Events, mapping: TableMapping | None) -> list[Problem]:
    if not _rows(events):
        return [Problem("The log is empty.", fatal=True)]
    problems = []
    if events.impressions.is_empty():
        problems.append(Problem(f"No impression was kept; {_refused(events)}.", fatal=True))
    if events.interactions.is_empty():
        reason = ""
        if read.interactions:
            reason = f" {_refused(events)}."
        elif mapping and mapping.clicked is not None and mapping.shape != "lists":
            reason = f" No row has a {mapping.clicked!r} above source.tables.threshold."
        problems.append(Problem(f"No interaction was kept.{reason}", fatal=True))
    if events.items.is_empty() and mapping and mapping.items_path:
        problems.append(Problem("No item of source.tables.items_path was kept.", fatal=False))
    return problems


def _rows(events: Events) -> int:
    return sum(
        table.height for table in (events.items, events.impressions, events.interactions, events.rejects)
    )


def _refused(events: Events) -> str:
    return f"{events.rejects.height:,} of {_rows(events):,} rows were refused"


def _outside_slices(read: Read, slices: Slices) -> list[Problem]:
    """Report impressions before the first slice or after the last."""
    start, end = slices.start, slices.end
    if not read.outside:
        return []
    until = f"{end:{_MINUTE}}" if end else "now"
    text = (
        f"{read.outside:,} of {read.impressions:,} impressions lie outside the slices: the log runs from "
        f"{read.first_at:{_MINUTE}} to {read.last_at:{_MINUTE}}, the slices from {start:{_MINUTE}} to {until}. Set "
        f"slices.start{' and slices.end' if end else ''} to match."
    )
    return [Problem(text, fatal=read.outside == read.impressions)]


def _many_refused(events: Events) -> list[Problem]:
    if not events.rejects.height > MAX_REFUSED * _rows(events):
        return []
    return [Problem(f"{_refused(events)}.".capitalize(), fatal=False)]


def _single_candidates(events: Events, mapping: TableMapping | None) -> list[Problem]:
    if events.impressions.is_empty() or (mapping and mapping.shape in ("ratings", "interactions")):
        return []
    if (events.impressions["candidates"].list.len() > 1).any():
        return []
    setting = {
        "lists": "If its cells contain several ids, set source.tables.separator.",
        "candidates": "If several rows form an impression, set source.tables.impression to the column with its id.",
    }.get(mapping.shape if mapping else "", "A ranking event must list all its candidates under items.")
    item = events.impressions["candidates"][0][0]["item_id"]
    return [Problem(f"Every impression has one candidate, for example {item!r}. {setting}", fatal=False)]


def _few_labels(events: Events, labels: Labels) -> list[Problem]:
    """Report interactions that label no candidate."""
    if events.interactions.is_empty() or events.impressions.is_empty():
        return []
    gains = {kind for kind, gain in labels.gains.items() if gain > 0}
    positive = events.interactions.filter(pl.col("kind").is_in(gains))
    if positive.is_empty():
        kinds = ", ".join(events.interactions["kind"].unique().sort().head(10))
        return [
            Problem(
                f"No interaction has a gain: the log's kinds are {kinds}, but labels.gains names "
                f"{', '.join(sorted(gains)) or 'none'}.",
                fatal=True,
            )
        ]
    named = positive.filter(positive["impression_id"].is_not_null())
    expected = named if named.height else positive
    labelled = attribute(events.impressions, expected, labels)["clicked"].sum()
    if labelled >= MIN_MATCHED * expected.height:
        return []
    unmatched = named.filter(~named["impression_id"].is_in(events.impressions["impression_id"].implode()))
    if unmatched.height > expected.height // 2:
        example = unmatched["impression_id"][0]
        reason = f"{unmatched.height:,} name an impression missing from the log, for example {example!r}"
    else:
        reason = (
            "the others happened outside labels.attribution, or on items that the impression did not show"
        )
    return [
        Problem(
            f"Only {labelled:,} candidates are clicked, from {expected.height:,} interactions with a gain: {reason}.",
            fatal=not labelled,
        )
    ]


def _unknown_items(events: Events, mapping: TableMapping | None) -> list[Problem]:
    """Report candidate and clicked ids that no item describes."""
    if events.items.is_empty():
        return []
    described = events.items["item_id"].unique()
    shown = events.impressions["candidates"].explode().struct.field("item_id").drop_nulls().unique()
    for kind, ids in (("candidate", shown), ("clicked item", events.interactions["item_id"].unique())):
        unknown = ids.filter(~ids.is_in(described.implode())).sort()
        if len(ids) and len(ids) - len(unknown) < MIN_MATCHED * len(ids):
            text = (
                f"{len(ids) - len(unknown):,} of {len(ids):,} {kind} ids are described by an item: these ids look like "
                f"{unknown[0]!r}, the items' like {described.sort()[0]!r}. {_id_setting(mapping)}"
            )
            return [Problem(text, fatal=len(unknown) == len(ids))]
    return []


def _id_setting(mapping: TableMapping | None) -> str:
    if mapping is None:
        return "Use the same ids in item events and rankings."
    return "Check that source.tables.item and source.tables.item_key match, or set source.tables.separator."
