"""What is wrong with a log as a whole: what no single refused row says, and the setting that mends it."""

from dataclasses import dataclass

import polars as pl

from features.events import Events
from features.labels import attribute
from features.project import Project
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


def find_problems(raw: RawEvents, events: Events, project: Project) -> list[Problem]:
    """Problems of a log, from its rows as read and as judged; none where it is fit for a run."""
    found = [
        *_emptiness(raw, events, project),
        *_timetable(raw, project),
        *_refusals(raw, events),
        *_single_candidates(events, project),
        *_labels(events, project),
        *_items(events, project),
    ]
    return sorted(found, key=lambda problem: not problem.fatal)


def _emptiness(raw: RawEvents, events: Events, project: Project) -> list[Problem]:
    if not raw.height:
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
        none = threshold if raw.interactions.is_empty() else f" {_refused(events)}."
        found.append(Problem(f"No interaction was kept.{none}", fatal=True))
    if events.items.is_empty() and project.source.tables and project.source.tables.items_path:
        found.append(Problem("No item of source.tables.items_path was kept.", fatal=False))
    return found


def _refused(events: Events) -> str:
    rows = sum(
        table.height for table in (events.items, events.impressions, events.interactions, events.rejects)
    )
    return f"{events.rejects.height:,} of {rows:,} rows were refused"


def _timetable(raw: RawEvents, project: Project) -> list[Problem]:
    """Impressions before the first slice or after the last."""
    start, end = project.slices.start, project.slices.end
    times = raw.impressions["shown_at"].drop_nulls()
    outside = (times < start) | (times >= end if end else False)
    if not outside.any():
        return []
    first, last = times.sort().gather([0, -1]).dt.strftime(_MINUTE)
    text = (
        f"{outside.sum():,} of {len(times):,} impressions lie outside the slices: the log runs from {first} to "
        f"{last}, the slices from {start:{_MINUTE}} to {f'{end:{_MINUTE}}' if end else 'now'}. Set slices.start"
        f"{' and slices.end' if end else ''} to match."
    )
    return [Problem(text, fatal=bool(outside.all()))]


def _refusals(raw: RawEvents, events: Events) -> list[Problem]:
    if not events.rejects.height > MANY_REFUSED * raw.height:
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
