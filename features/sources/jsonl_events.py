"""Metarank's event format: JSON lines of `item`, `ranking` and `interaction` events.

Interactions and rankings, which are nearly all of a log, are decoded a chunk at a time by polars. A chunk
with a line that polars cannot decode is halved until that line stands nearly alone; such lines, and items
(whose fields may be anything), are read one by one. Both ways give the same rows.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import polars as pl

from features.project import Project
from features.sources.files import find, read_lines
from features.sources.instants import read_instants
from features.sources.items import item_rows, text_of
from features.sources.raw import RawEvents, absent, gather, numbered, refuse

SUFFIXES = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".json", ".json.gz")

_TEXTS = ("event", "id", "item", "user", "session", "ranking", "type", "timestamp", "known_at", "value")
_FIELDS = pl.List(pl.Struct({"name": pl.String, "value": pl.String}))
_WIRE = pl.Struct(
    {
        **dict.fromkeys(_TEXTS, pl.String),
        "items": pl.List(pl.Struct({"id": pl.String})),
        "fields": _FIELDS,
    }
)
_ROW = pl.Schema(
    {"source": pl.String, "line": pl.Int64, "raw": pl.String, **dict.fromkeys(_TEXTS, pl.String)}
    | {"items": pl.List(pl.String), "problem": pl.String}
)
_CHUNK = 2048
_ALONE = 16
_FAST = r'"event"\s*:\s*"(?:interaction|ranking)"'
_SURROGATE = r"(?i)\\ud[89a-f]"
"""Escapes that may be half a character: polars reads them as NUL, so they go the slow way."""


def read(project: Project, paths: Sequence[Path]) -> RawEvents:
    """Read events from files or folders. Each line becomes one item, impression, interaction or reject.

    An interaction is known at its `known_at` (a key or a field), else `source.known_after` after it happened.
    Raises SourceError where there is no file to read.
    """
    pieces: list[RawEvents] = []
    for source, path in find(paths, SUFFIXES):
        lines = read_lines(path, source)
        fast = pl.col("raw").str.contains(_FAST) & ~pl.col("raw").str.contains(_SURROGATE)
        likely = lines.rows.filter(fast)
        decoded: list[pl.DataFrame] = []
        slow = [lines.rows.filter(~fast)]
        for start in range(0, likely.height, _CHUNK):
            _decode(likely.slice(start, _CHUNK), decoded, slow)
        rows, items, fields = _parse(pl.concat(slow))
        pieces.append(_sort_out(pl.concat([*decoded, rows]), items, fields, project))
        pieces.append(gather(rejects=[lines.rejects]))
    return gather(
        items=[piece.items for piece in pieces],
        impressions=[piece.impressions for piece in pieces],
        interactions=[piece.interactions for piece in pieces],
        rejects=[piece.rejects for piece in pieces],
    )


def _decode(chunk: pl.DataFrame, decoded: list[pl.DataFrame], slow: list[pl.DataFrame]) -> None:
    """Decode a chunk in one go; where a line stops it, halve it; few lines are left to the slow way."""
    try:
        wire = chunk.with_columns(chunk["raw"].str.json_decode(_WIRE).alias("wire")).unnest("wire")
    except pl.exceptions.ComputeError:
        if chunk.height <= _ALONE:
            slow.append(chunk)
            return
        half = chunk.height // 2
        _decode(chunk.head(half), decoded, slow)
        _decode(chunk.slice(half), decoded, slow)
        return
    expected = pl.col("event").is_in(["interaction", "ranking"]).fill_null(False)
    slow.append(wire.filter(~expected).select(chunk.columns))
    wire = _with_fields(wire.filter(expected))
    items = pl.col("items").list.eval(pl.element().struct.field("id"))
    decoded.append(wire.with_columns(items, problem=pl.lit(None, pl.String)).select(_ROW.names()).cast(_ROW))


def _with_fields(wire: pl.DataFrame) -> pl.DataFrame:
    """`known_at` and `value` may stand among the event's fields: taken from there where there is no key."""
    wire = wire.with_row_index("row")
    fields = wire.filter(pl.col("fields").list.len() > 0).select("row", "fields")
    named = fields.explode("fields").unnest("fields").filter(pl.col("name").is_in(["known_at", "value"]))
    for name in ("known_at", "value"):
        found = named.filter(pl.col("name") == name).unique("row", keep="first", maintain_order=True)
        wire = wire.join(found.select("row", pl.col("value").alias("found")), on="row", how="left")
        wire = wire.with_columns(pl.coalesce(name, "found").alias(name)).drop("found")
    return wire.drop("row")


def _parse(lines: pl.DataFrame) -> tuple[pl.DataFrame, list[bool], list[dict[str, Any]]]:
    """Read lines one by one → their rows, which of them are items, and each item's fields by name."""
    rows: list[tuple[Any, ...]] = []
    is_item: list[bool] = []
    item_fields: list[dict[str, Any]] = []
    for source, line, raw in lines.select("source", "line", "raw").iter_rows():
        event, problem = _load(raw)
        fields: dict[str, Any] = {}
        if problem is None:
            fields, problem = _fields(event)
        if problem is None and event.get("event") != "item":
            event = {name: fields.get(name) for name in ("known_at", "value")} | _present(event)
        texts = [text_of(event.get(name)) for name in _TEXTS]
        if problem is None:
            problem = _misfit(event)
        items, problem = _shown(event, problem)
        rows.append((source, line, raw, *texts, items, problem))
        is_item.append(problem is None and event.get("event") == "item")
        if is_item[-1]:
            item_fields.append(fields)
    return pl.DataFrame(rows, schema=_ROW, orient="row"), is_item, item_fields


def _load(raw: str) -> tuple[dict[str, Any], str | None]:
    try:
        event = json.loads(raw, parse_constant=_refuse_constant)
        if "\\u" in raw:
            json.dumps(event, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return {}, "broken_json"
    return (event, None) if isinstance(event, dict) else ({}, "broken_json:not an object")


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _fields(event: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    fields = event.get("fields")
    if fields is None:
        return {}, None
    if not isinstance(fields, list) or not all(field is None or isinstance(field, dict) for field in fields):
        return {}, "bad_field:fields"
    named = [field for field in fields if field and isinstance(field.get("name"), str)]
    return {field["name"]: field.get("value") for field in reversed(named)}, None


def _present(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if value is not None}


def _misfit(event: dict[str, Any]) -> str | None:
    wrong = (name for name in _TEXTS if isinstance(event.get(name), list | dict))
    return next((f"bad_field:{name}" for name in wrong), None)


def _shown(event: dict[str, Any], problem: str | None) -> tuple[list[str | None] | None, str | None]:
    items = event.get("items")
    if problem is not None or items is None or event.get("event") != "ranking":
        return None, problem
    if not isinstance(items, list) or not all(item is None or isinstance(item, dict) for item in items):
        return None, "bad_field:items"
    ids = [item.get("id") if item else None for item in items]
    if any(isinstance(item_id, list | dict) for item_id in ids):
        return None, "bad_field:items"
    return [text_of(item_id) for item_id in ids], None


def _sort_out(
    rows: pl.DataFrame, is_item: list[bool], item_fields: list[dict[str, Any]], project: Project
) -> RawEvents:
    """Rows of the wire → items, impressions, interactions, and rejects for what no table can hold."""
    happened, known = (read_instants(rows[name]) for name in ("timestamp", "known_at"))
    item_row = [None] * (rows.height - len(is_item)) + _count(is_item)
    rows = rows.with_columns(
        at=happened,
        known=pl.coalesce(known, happened + project.source.known_after),
        bad_known=pl.Series(known.is_null()) & ~absent("known_at"),
        item_row=pl.Series(item_row, dtype=pl.Int64),
    )
    event, problem = pl.col("event"), pl.col("problem")
    known_events = ["item", "ranking", "interaction"]
    kept, rejects = refuse(
        rows,
        [
            (problem, problem.is_not_null()),
            ("missing_field:event", absent("event")),
            (pl.format("unknown_event:{}", event), ~event.is_in(known_events)),
            ("bad_timestamp", pl.col("at").is_null() & ~absent("timestamp")),
            ("bad_timestamp:known_at", (event == "interaction") & pl.col("bad_known")),
        ],
        at="at",
    )
    items = kept.filter(event == "item").select(
        "source", "line", "raw", "item_row", item_id="item", known_at="at"
    )
    fields = [item_fields[row] for row in items["item_row"]]
    impressions = kept.filter(event == "ranking").select(
        "source",
        "line",
        "raw",
        impression_id="id",
        user_id="user",
        shown_at="at",
        session_id="session",
        candidates=numbered(pl.col("items")),
    )
    interactions = kept.filter(event == "interaction").select(
        "source",
        "line",
        "raw",
        interaction_id="id",
        impression_id=pl.when(~absent("ranking")).then("ranking"),
        user_id="user",
        item_id="item",
        kind="type",
        value=pl.col("value").cast(pl.Float64, strict=False),
        happened_at="at",
        known_at="known",
    )
    return gather([item_rows(items, fields, project.items)], [impressions], [interactions], [rejects])


def _count(flags: list[bool]) -> list[int | None]:
    """For each True its number, from 0."""
    seen = 0
    numbers: list[int | None] = []
    for flag in flags:
        numbers.append(seen if flag else None)
        seen += flag
    return numbers
