"""What is wrong with a log as a whole: what no single refused row says, and the setting that mends it."""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from features.config.project import Project
from features.config.slices import Slices
from features.events.labels import attribute
from features.events.validation import Events
from features.sources.raw import RawEvents

MANY_REFUSED = 0.1
FEW_MATCHES = 0.1
"""Shares beyond which a person should look before a run."""
_MINUTE = "%Y-%m-%d %H:%M"


@dataclass(frozen=True)
class Problem:
    """One sentence or two. A `fatal` one leaves nothing to learn from."""

    text: str
    fatal: bool


@dataclass(frozen=True)
class Read:
    """What was in a log, whether it was kept or not."""

    interactions: int = 0
    impressions: int = 0
    """Those with a time."""
    outside: int = 0
    """Of these, those outside the slices."""
    first_at: datetime | None = None
    last_at: datetime | None = None

    @staticmethod
    def of(raw: RawEvents, slices: Slices) -> "Read":
        """What is in some rows."""
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


def find_problems(read: Read, events: Events, project: Project) -> list[Problem]:
    """Problems of a log, from what was in it and what was kept; none where it is fit for a run."""
    found = [
        *_emptiness(read, events, project),
        *_timetable(read, project),
        *_refusals(events),
        *_single_candidates(events, project),
        *_labels(events, project),
        *_items(events, project),
    ]
    return sorted(found, key=lambda problem: not problem.fatal)


def _emptiness(read: Read, events: Events, project: Project) -> list[Problem]:
    if not _rows(events):
        return [Problem("The log is empty.", fatal=True)]
    found = []
    if events.impressions.is_empty():
        found.append(Problem(f"No impression was kept; {_refused(events)}.", fatal=True))
    if events.interactions.is_empty():
        mapping = project.source.tables
        clicked = mapping is not None and mapping.clicked is not None and mapping.shape != "lists"
        threshold = (
            f" No row has a {mapping.clicked!r} above source.tables.threshold." if mapping and clicked else ""
        )
        none = threshold if not read.interactions else f" {_refused(events)}."
        found.append(Problem(f"No interaction was kept.{none}", fatal=True))
    if events.items.is_empty() and project.source.tables and project.source.tables.items_path:
        found.append(Problem("No item of source.tables.items_path was kept.", fatal=False))
    return found


def _rows(events: Events) -> int:
    return sum(
        table.height for table in (events.items, events.impressions, events.interactions, events.rejects)
    )


def _refused(events: Events) -> str:
    return f"{events.rejects.height:,} of {_rows(events):,} rows were refused"


def _timetable(read: Read, project: Project) -> list[Problem]:
    """Impressions before the first slice or after the last."""
    start, end = project.slices.start, project.slices.end
    if not read.outside:
        return []
    until = f"{end:{_MINUTE}}" if end else "now"
    text = (
        f"{read.outside:,} of {read.impressions:,} impressions lie outside the slices: the log runs from "
        f"{read.first_at:{_MINUTE}} to {read.last_at:{_MINUTE}}, the slices from {start:{_MINUTE}} to {until}. Set "
        f"slices.start{' and slices.end' if end else ''} to match."
    )
    return [Problem(text, fatal=read.outside == read.impressions)]


def _refusals(events: Events) -> list[Problem]:
    if not events.rejects.height > MANY_REFUSED * _rows(events):
        return []
    return [Problem(f"{_refused(events)}.".capitalize(), fatal=False)]


def _single_candidates(events: Events, project: Project) -> list[Problem]:
    mapping = project.source.tables
    if events.impressions.is_empty() or (mapping and mapping.shape in ("ratings", "interactions")):
        return []
    if (events.impressions["candidates"].list.len() > 1).any():
        return []
    setting = {
        "lists": "If their cells hold several ids, set source.tables.separator.",
        "candidates": "If rows belong together, name the column of their impression in source.tables.impression.",
    }.get(mapping.shape if mapping else "", "A ranking event lists its candidates under items.")
    item = events.impressions["candidates"][0][0]["item_id"]
    return [Problem(f"Every impression has one candidate, for example {item!r}. {setting}", fatal=False)]


def _labels(events: Events, project: Project) -> list[Problem]:
    """Interactions that label no candidate."""
    if events.interactions.is_empty() or events.impressions.is_empty():
        return []
    gains = {kind for kind, gain in project.labels.gains.items() if gain > 0}
    gained = events.interactions.filter(pl.col("kind").is_in(gains))
    if gained.is_empty():
        kinds = ", ".join(events.interactions["kind"].unique().sort().head(10))
        return [
            Problem(
                f"No interaction has a gain: the log's kinds are {kinds}, and labels.gains names "
                f"{', '.join(sorted(gains)) or 'none'}.",
                fatal=True,
            )
        ]
    named = gained.filter(gained["impression_id"].is_not_null())
    expected = named if named.height else gained
    labelled = attribute(events.impressions, expected, project.labels)["clicked"].sum()
    if labelled >= FEW_MATCHES * expected.height:
        return []
    lost = named.filter(~named["impression_id"].is_in(events.impressions["impression_id"].implode()))
    if lost.height > expected.height // 2:
        why = (
            f"{lost.height:,} name an impression that the log lacks, for example {lost['impression_id'][0]!r}"
        )
    else:
        why = "the others happened later than labels.attribution after it, or on another item than it showed"
    return [
        Problem(
            f"{labelled:,} candidates are clicked by {expected.height:,} interactions that have a gain: {why}.",
            fatal=not labelled,
        )
    ]


def _items(events: Events, project: Project) -> list[Problem]:
    """Candidates and clicked items that no item describes."""
    if events.items.is_empty():
        return []
    described = events.items["item_id"].unique()
    shown = events.impressions["candidates"].explode().struct.field("item_id").drop_nulls().unique()
    for what, ids in (("candidate", shown), ("clicked item", events.interactions["item_id"].unique())):
        unknown = ids.filter(~ids.is_in(described.implode())).sort()
        if len(ids) and len(ids) - len(unknown) < FEW_MATCHES * len(ids):
            text = (
                f"{len(ids) - len(unknown):,} of {len(ids):,} {what} ids are described by an item: they look like "
                f"{unknown[0]!r}, the items' like {described.sort()[0]!r}. {_id_setting(project)}"
            )
            return [Problem(text, fatal=len(unknown) == len(ids))]
    return []


def _id_setting(project: Project) -> str:
    if project.source.tables is None:
        return "Write the same ids in item events as in rankings."
    return (
        "Compare the columns source.tables.item and source.tables.item_key, or set source.tables.separator."
    )
