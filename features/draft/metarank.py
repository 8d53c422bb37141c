"""Guess the project file of a log in Metarank's JSON lines."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from features.config.slices import parse_duration
from features.draft.column_content import Column, repeated
from features.draft.guesses import Guess, join_names
from features.draft.item_columns import guess_items
from features.draft.sample import evenly_spaced, read_json_lines, read_tail
from features.draft.times import (
    guess_attribution,
    guess_half_lives,
    guess_times,
    slice_length,
    span_of,
)
from features.errors import SourceError
from features.sources.files import cut
from features.sources.instants import read_instants
from features.sources.item_rows import text_of, texts_of

_EVENTS = ("item", "ranking", "interaction")
_BLOCKS = 4
"""Blocks of 16 MB read per file."""
_ROWS = 8000
"""Events of each kind used per block."""
_GAINS = {"purchase": 10.0, "buy": 10.0, "order": 10.0, "transaction": 10.0, "cart": 3.0, "add_to_cart": 3.0,
          "addtocart": 3.0, "share": 3.0, "like": 2.0, "comment": 2.0, "bookmark": 2.0, "save": 2.0,
          "favorite": 2.0, "follow": 2.0, "click": 1.0, "view": 1.0, "open": 1.0, "read": 1.0, "play": 1.0}  # fmt: skip
"""Gains of common kinds of interaction."""
_NEGATIVE = ("dislike", "skip", "hide", "block", "report", "mute", "return", "refund")
"""Negative kinds of interaction: they have no gain."""

Event = dict[str, Any]


def guess_metarank(files: Sequence[Path], path: str | tuple[str, ...]) -> list[Guess]:
    """Guess every key for a log of Metarank's events. `path` is `source.path`.

    Raises SourceError if there are no ranking events.
    """
    events, complete, to_end = _sample(files)
    items, rankings, clicks = (events[kind] for kind in _EVENTS)
    if not rankings:
        raise SourceError(
            f"{files[0]} has {len(items):,} item events and no ranking: name the log with the rankings too"
        )
    at = pl.concat([_instants(rankings), _instants(clicks)])
    span = span_of(at.sort() if _instants(rankings).is_sorted() else at, complete, to_end)
    has_arrival = any("known_at" in click or "known_at" in _fields(click) for click in clicks)
    counts = f"{len(items):,} item, {len(rankings):,} ranking and {len(clicks):,} interaction events"
    return [
        Guess("source.format", "metarank", counts + ("" if complete else " in a sample")),
        Guess("source.path", path, f"{len(files)} file{'s'[: len(files) > 1]} of JSON lines"),
        *guess_times(span, has_arrival),
        _gains(clicks),
        guess_attribution(_lags(rankings, clicks), parse_duration(slice_length(span))),
        *_item_fields(items),
        *_context(rankings),
        *guess_half_lives(span),
    ]


def _sample(files: Sequence[Path]) -> tuple[dict[str, list[Event]], bool, bool]:
    """Events of each kind from the start and end of some files; whether all and whether the last are included."""
    events: dict[str, list[Event]] = {kind: [] for kind in _EVENTS}
    chosen = evenly_spaced(files)
    complete, to_end = len(chosen) == len(files), True
    for path in chosen:
        to_end = True
        for number, block in enumerate(cut(path, path.name)):
            if number == _BLOCKS:
                tail = read_tail(path)
                complete, to_end = False, bool(tail)
                _add_events(tail, events)
                break
            complete = _add_events(block.content, events) and complete
    return events, complete, to_end


def _add_events(content: bytes, events: dict[str, list[Event]]) -> bool:
    """Add a block's first events of each kind and its last one to `events`. False if some were left out."""
    counts = dict.fromkeys(_EVENTS, 0)
    for row in read_json_lines(content):
        kind = row.get("event")
        if isinstance(kind, str) and kind in counts:
            counts[kind] += 1
            if counts[kind] > _ROWS:
                events[kind].pop()
            events[kind].append(row)
    return max(counts.values()) <= _ROWS


def _instants(events: Sequence[Event]) -> pl.Series:
    return read_instants(pl.Series("at", [text_of(event.get("timestamp")) for event in events], pl.String))


def _fields(event: Event) -> dict[str, object]:
    fields = event.get("fields")
    if not isinstance(fields, list):
        return {}
    named = (field for field in fields if isinstance(field, dict) and "name" in field)
    return {str(field["name"]): field.get("value") for field in named}


def _columns(events: Sequence[Event]) -> list[Column]:
    """Fields of events as columns: of lists if any value is a list, else of text."""
    rows = [_fields(event) for event in events]
    columns = []
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        if any(isinstance(value, list) for value in values):
            cells = pl.Series(name, [texts_of(value) for value in values], pl.List(pl.String))
        else:
            cells = pl.Series(name, [text_of(value) for value in values], pl.String)
        columns.append(Column(name, cells))
    return columns


def _item_fields(items: Sequence[Event]) -> list[Guess]:
    if not items:
        evidence = "the sample has no item events: only ids of items are known"
        return [Guess("items.title", "", evidence, "low"), Guess("items.body", "", evidence, "low")]
    return guess_items(_columns(items), "")


def _gains(clicks: Sequence[Event]) -> Guess:
    kinds = pl.Series([str(click.get("type")) for click in clicks], dtype=pl.String).value_counts(sort=True)
    names = [kind for kind in kinds.to_series(0).head(12) if kind.lower() not in _NEGATIVE]
    if not names:
        return Guess("labels.gains", {"click": 1.0}, "the sample has no interactions", "low")
    gains = {name: _GAINS.get(name.lower(), 1.0) for name in names}
    if len(gains) > 1 and "view" in gains and "click" in gains:
        gains["view"] = 0.5
    counts = ", ".join(f"{name} {count:,}" for name, count in kinds.head(12).iter_rows())
    if list(gains) == ["click"]:
        return Guess("labels.gains", gains, f"interactions: {counts}")
    review = "How much is each kind worth to you? These gains are common ones."
    return Guess("labels.gains", gains, f"interactions: {counts}", "low", review)


def _lags(rankings: Sequence[Event], clicks: Sequence[Event]) -> pl.Series | None:
    """Times from rankings to their interactions."""
    ids = pl.Series([text_of(event.get("id")) for event in rankings], dtype=pl.String)
    shown = pl.DataFrame({"id": ids, "shown": _instants(rankings)}).drop_nulls().unique("id")
    ids = pl.Series([text_of(event.get("ranking")) for event in clicks], dtype=pl.String)
    clicked = pl.DataFrame({"id": ids, "clicked": _instants(clicks)}).drop_nulls()
    lags = clicked.join(shown, on="id").select(pl.col("clicked") - pl.col("shown")).to_series()
    return lags.filter(lags >= timedelta(0)) if len(lags) else None


def _context(rankings: Sequence[Event]) -> list[Guess]:
    """Guess the context: fields of rankings with few values, which excludes what users type (`query`)."""
    fitting = [
        column
        for column in _columns(rankings)
        if 2 <= column.distinct <= 50 and not column.sentences and repeated(column.values) > 0.9
    ]
    if not fitting:
        return []
    chosen = fitting[:4]
    evidence = "fields of rankings with few values: " + join_names(
        [f"{c.name} ({c.distinct})" for c in chosen]
    )
    return [Guess("context.categorical", tuple(c.name for c in chosen), evidence, "medium")]


def holds_events(content: bytes) -> bool:
    """Whether most of a file's first lines are Metarank's events."""
    rows = [row for row, _ in zip(read_json_lines(content), range(50), strict=False)]
    return bool(rows) and sum(row.get("event") in _EVENTS for row in rows) >= 0.5 * len(rows)
