"""Metarank's event format: JSON lines of `item`, `ranking` and `interaction` events.

Polars decodes thousands of lines at a time; lines that it cannot decode are parsed one by one, with the same
result.
"""

import json
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn

import polars as pl

from features.config.sections import Context, ReaderConfig
from features.sources.files import Block, LogFile, Reader, cut_json_lines, quote_lines, split, with_suffix
from features.sources.instants import read_instants
from features.sources.item_rows import (
    FIELD,
    TEXTS,
    context_values,
    item_rows,
    names_of,
    pick_fields,
    single_value,
    text_of,
    texts_of,
)
from features.sources.json_texts import decode
from features.sources.raw import Hide, RawEvents, absent, as_logged, gather, refuse, with_positions
from features.sources.sampling import Past
from features.threads import work_ahead

SUFFIXES = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".json", ".json.gz")

_TEXTS = ("event", "id", "item", "user", "session", "ranking", "type", "timestamp", "known_at", "value")
_EITHER = ("known_at", "value")
"""Keys of an interaction that may be fields instead."""
_WIRE = pl.Struct(
    {
        **dict.fromkeys(_TEXTS, pl.String),
        "items": pl.List(pl.Struct({"id": pl.String, "propensity": pl.String})),
        "fields": pl.List(pl.Struct({"name": pl.String, "value": TEXTS})),
    }
)
_PLACE = pl.Schema({"source": pl.String, "line": pl.Int64, "raw": pl.String})
_QUOTED = pl.lit(None, pl.String)
"""Texts of valid rows are not kept: `quote_lines` reads them again."""
_ROW = pl.Schema({**_PLACE, **_WIRE.to_schema(), "problem": pl.String})


def chunks(
    config: ReaderConfig, file: LogFile, hide: Hide = as_logged, _: Past | None = None
) -> Iterator[RawEvents]:
    """Read events one block at a time. Each line becomes one item, impression, interaction or reject.

    An interaction's value is null unless it is a finite number. It is known at its `known_at` (a key or a field),
    else `source.known_after` after it happened. Where a field must have one value, a list of one is accepted.
    Raises SourceError for a JSON array.
    """
    blocks = cut_json_lines(file.path, file.source, file.after, file.first)
    return work_ahead(partial(_parse_block, config, hide), blocks)


METARANK = Reader(with_suffix(*SUFFIXES), chunks)


def read_lines(config: ReaderConfig, content: bytes, source: str, hide: Hide = as_logged) -> RawEvents:
    """Read lines in memory, as `chunks` reads those of a file."""
    return _parse_block(config, hide, Block(source, 1, content))


def _read_rows(lines: pl.DataFrame) -> pl.DataFrame:
    """Parse lines into the columns of `_ROW`; `problem` is the reject reason of lines that are no event."""
    values, read = decode(lines["raw"], _WIRE)
    decoded = lines.filter(read).hstack(values.struct.unnest().get_columns())
    decoded = decoded.with_columns(problem=pl.lit(None, pl.String)).select(_ROW.names())
    return pl.concat([decoded, _parse(lines.filter(~read))])


def _parse(lines: pl.DataFrame) -> pl.DataFrame:
    """Parse lines one by one."""
    rows: list[tuple[Any, ...]] = []
    for source, line, raw in lines.iter_rows():
        event, problem = _load(raw)
        fields, problem = _fields(event, problem)
        if problem is None:
            wrong = (name for name in _TEXTS if isinstance(event.get(name), list | dict))
            problem = next((f"bad_field:{name}" for name in wrong), None)
        items, problem = _items(event, problem)
        texts = [text_of(event.get(name)) for name in _TEXTS]
        rows.append((source, line, raw, *texts, items, fields, problem))
    return pl.DataFrame(rows, schema=_ROW, orient="row")


def _load(raw: str) -> tuple[dict[str, Any], str | None]:
    try:
        # Like polars, use the first value of a duplicate key.
        event = json.loads(
            raw, parse_constant=_refuse_constant, object_pairs_hook=lambda pairs: dict(reversed(pairs))
        )
        if "\\u" in raw:
            json.dumps(event, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return {}, "broken_json"
    return (event, None) if isinstance(event, dict) else ({}, "broken_json:not an object")


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _fields(event: dict[str, Any], problem: str | None) -> tuple[list[dict[str, Any]] | None, str | None]:
    fields = event.get("fields")
    if problem is not None or fields is None:
        return None, problem
    if not isinstance(fields, list) or not all(field is None or isinstance(field, dict) for field in fields):
        return None, "bad_field:fields"
    named = [(text_of(field.get("name")), texts_of(field.get("value"))) for field in fields if field]
    return [{"name": name, "value": value} for name, value in named], None


def _items(event: dict[str, Any], problem: str | None) -> tuple[list[dict[str, Any]] | None, str | None]:
    items = event.get("items")
    if problem is not None or items is None or event.get("event") != "ranking":
        return None, problem
    if not isinstance(items, list) or not all(item is None or isinstance(item, dict) for item in items):
        return None, "bad_field:items"
    shown = [{name: (item or {}).get(name) for name in ("id", "propensity")} for item in items]
    if any(isinstance(value, list | dict) for item in shown for value in item.values()):
        return None, "bad_field:items"
    return [{name: text_of(value) for name, value in item.items()} for item in shown], None


def _parse_block(config: ReaderConfig, hide: Hide, block: Block) -> RawEvents:
    """A block's lines → items, impressions, interactions and rejects."""
    lines = split(block)
    rows, invalid = _split_rejects(_read_rows(lines.rows))
    rows = rows.with_columns(hide(rows["user"]))
    interactions, ambiguous = _interactions(_of(rows, "interaction"), config.source.known_after)
    impressions = _impressions(_of(rows, "ranking"), config.context)
    items = (
        _of(rows, "item")
        .select("source", "line", "fields", raw=_QUOTED, item_id="item", known_at="at")
        .collect()
    )
    described = items.hstack(pick_fields(items["fields"], names_of(config.items)))
    rejects = [lines.rejects, invalid, ambiguous]
    quotes = [(block.source, partial(quote_lines, block))]
    return gather([item_rows(described, config.items)], [impressions], [interactions], rejects, quotes)


def _split_rejects(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Valid rows with their instant, `at`, and rejects."""
    event, problem = pl.col("event"), pl.col("problem")
    return refuse(
        rows.with_columns(read_instants(rows["timestamp"]).alias("at")),
        [
            (problem, problem.is_not_null()),
            ("missing_field:event", absent("event")),
            (pl.lit("unknown_event:") + event, ~event.is_in(["item", "ranking", "interaction"])),
            ("bad_timestamp", pl.col("at").is_null() & ~absent("timestamp")),
        ],
        at="at",
    )


def _of(rows: pl.DataFrame, event: str) -> pl.LazyFrame:
    return rows.lazy().filter(pl.col("event") == event)


def _impressions(rankings: pl.LazyFrame, context: Context) -> pl.DataFrame:
    rows = rankings.select(
        "source",
        "line",
        "fields",
        raw=_QUOTED,
        impression_id="id",
        user_id="user",
        shown_at="at",
        session_id="session",
        candidates=with_positions(pl.col("items"), "id", "propensity"),
    ).collect()
    return rows.hstack(pick_fields(rows["fields"], context.fields)).with_columns(
        context=context_values(context)
    )


def _interactions(rows: pl.LazyFrame, known_after: timedelta) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Interactions, and rejects whose value or `known_at` is invalid. Each may be a key or a field."""
    events = rows.select(*_PLACE, *_TEXTS, "fields", "at").collect()
    events = events.hstack(pick_fields(events["fields"], _EITHER))
    events = events.with_columns(pl.coalesce(name, single_value(name)) for name in _EITHER)
    known = read_instants(events["known_at"])
    several = [pl.col(name).is_null() & (pl.col(FIELD + name).list.len() != 1) for name in _EITHER]
    value = pl.col("value").cast(pl.Float64, strict=False)
    kept, rejects = refuse(
        events.with_columns(known=known),
        [
            *((f"bad_field:{name}", condition) for name, condition in zip(_EITHER, several, strict=True)),
            ("bad_timestamp:known_at", pl.col("known").is_null() & ~absent("known_at")),
        ],
        at="at",
    )
    interactions = kept.select(
        "source",
        "line",
        raw=_QUOTED,
        interaction_id="id",
        impression_id=pl.when(~absent("ranking")).then("ranking"),
        user_id="user",
        item_id="item",
        kind="type",
        value=pl.when(value.is_finite()).then(value),
        happened_at="at",
        known_at=pl.coalesce("known", pl.col("at") + known_after),
    )
    return interactions, rejects
