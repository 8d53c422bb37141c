"""Peers of `ingest.py` under the same rules: a plain Python loop, and DuckDB."""

import json
from collections.abc import Container
from pathlib import Path
from typing import Any

import polars as pl
from ingest_logs import END, START

Kept = dict[str, int]
"""Rows kept, by table."""


def with_loop(log: Path, out: Path) -> Kept:
    """Read an event log, sorted by time, with a plain Python loop over its lines."""
    items: dict[tuple[str, int], tuple[Any, ...]] = {}
    lists: dict[str, tuple[Any, ...]] = {}
    members: dict[str, Container[str]] = {}
    done: dict[str, tuple[Any, ...]] = {}
    since, until = (int(at.timestamp() * 1000) for at in (START, END))
    with log.open(encoding="utf-8") as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            at = int(event["timestamp"])
            if not since <= at < until:
                continue
            fields = {field["name"]: field["value"] for field in event["fields"]}
            if event["event"] == "item" and event["item"] and fields.get("title"):
                values = [("category", fields["category"]), *(("tags", tag) for tag in fields["tags"])]
                attributes = [{"name": name, "value": value} for name, value in values]
                numbers = [{"name": "length", "value": float(fields["length"])}]
                row = (fields["title"], fields["body"], attributes, numbers)
                items.setdefault((event["item"], at), row)
            elif event["event"] == "ranking" and event["id"] and event["user"] and event["items"]:
                ids = dict.fromkeys(item["id"] for item in event["items"] if item["id"])
                shown = [
                    {"item_id": item, "position": position} for position, item in enumerate(ids, start=1)
                ]
                context = [{"name": name, "value": value} for name, value in fields.items()]
                lists.setdefault(event["id"], (event["user"], at, event["session"], context, shown))
                members.setdefault(event["id"], ids.keys())
            elif event["event"] == "interaction" and event["id"] and event["user"] and event["item"]:
                owner = lists.get(event["ranking"], (event["user"],))[0]
                if event["user"] == owner and event["item"] in members.get(event["ranking"], event["item"]):
                    done.setdefault(
                        event["id"], (event["ranking"], event["user"], event["item"], event["type"], at)
                    )
    rows = {
        "items": [(*key, *row) for key, row in items.items()],
        "impressions": [(key, *row) for key, row in lists.items()],
        "interactions": [(key, *row) for key, row in done.items()],
    }
    for table, columns in _LOOP_COLUMNS.items():
        frame = pl.DataFrame(rows[table], schema=columns, orient="row")
        day = pl.from_epoch("at", time_unit="ms").dt.date().cast(pl.String).alias("slice")
        for (slice,), part in frame.sort("at").group_by(day, maintain_order=True):
            part.write_parquet(out / table / f"{slice}.parquet", mkdir=True)
    return {table: len(of) for table, of in rows.items()}


_NAMED = pl.List(pl.Struct({"name": pl.String, "value": pl.String}))
_LOOP_COLUMNS: dict[str, dict[str, Any]] = {
    "items": {"item_id": pl.String, "at": pl.Int64, "title": pl.String, "body": pl.String}
    | {"attributes": _NAMED, "numbers": pl.List(pl.Struct({"name": pl.String, "value": pl.Float64}))},
    "impressions": {"impression_id": pl.String, "user_id": pl.String, "at": pl.Int64, "session_id": pl.String}
    | {"context": _NAMED, "candidates": pl.List(pl.Struct({"item_id": pl.String, "position": pl.Int32}))},
    "interactions": dict.fromkeys(
        ("interaction_id", "impression_id", "user_id", "item_id", "kind"), pl.String
    )
    | {"at": pl.Int64},
}


def with_duckdb(log: Path, out: Path) -> Kept:
    """Apply the same rules in SQL; write one Parquet file per table and slice."""
    import duckdb

    kept: Kept = {}
    out.mkdir()
    with duckdb.connect() as database:
        words = {"log": log, "since": START.replace(tzinfo=None), "until": END.replace(tzinfo=None)}
        for statement in (_SQL[log.stem] + _SQL_BOTH).format(**words).split(";"):
            database.execute(statement)
        for table, time_ in (
            ("items", "known_at"),
            ("impressions", "shown_at"),
            ("interactions", "known_at"),
        ):
            database.execute(
                f"COPY (SELECT *, strftime({time_}, '%Y-%m-%d') AS slice FROM {table} ORDER BY slice, {time_}) "
                f"TO '{out / table}' (FORMAT parquet, PARTITION_BY (slice))"
            )
            kept[table] = database.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
    return kept


_SQL = {
    "events": """
CREATE TABLE event AS
FROM read_json('{log}', format = 'newline_delimited', ignore_errors = true, columns = {{
    event: 'VARCHAR', id: 'VARCHAR', item: 'VARCHAR', user: 'VARCHAR', session: 'VARCHAR', ranking: 'VARCHAR',
    type: 'VARCHAR', timestamp: 'BIGINT', items: 'STRUCT(id VARCHAR)[]',
    fields: 'STRUCT(name VARCHAR, value JSON)[]'}})
SELECT *, make_timestamp_ms(timestamp) AS moment;

CREATE TABLE item AS
WITH described AS (SELECT *, map_from_entries(list_transform(fields, lambda f: (f.name, f.value))) AS field FROM event)
SELECT item AS item_id, moment AS known_at, field['title'] ->> '$' AS title, field['body'] ->> '$' AS body,
    list_concat([{{name: 'category', value: field['category'] ->> '$'}}],
        list_transform(CAST(field['tags'] AS VARCHAR[]), lambda tag: {{name: 'tags', value: tag}})) AS attributes,
    [{{name: 'length', value: CAST(field['length'] AS DOUBLE)}}] AS numbers
FROM described WHERE event = 'item';

CREATE TABLE impression AS
SELECT id AS impression_id, user AS user_id, moment AS shown_at, session AS session_id,
    list_transform(fields, lambda f: {{name: f.name, value: f.value ->> '$'}}) AS context,
    list_transform(items, lambda i, n: {{item_id: i.id, position: CAST(n AS INTEGER)}}) AS candidates
FROM event WHERE event = 'ranking';

CREATE TABLE interaction AS
SELECT id AS interaction_id, ranking AS impression_id, user AS user_id, item AS item_id, type AS kind,
    NULL::DOUBLE AS value, moment AS happened_at, moment AS known_at
FROM event WHERE event = 'interaction';
""",
    "lists": """
CREATE TABLE impression AS
SELECT impression_id, user_id, shown_at::TIMESTAMP AS shown_at, NULL::VARCHAR AS session_id,
    list_transform(items, lambda i, n: {{item_id: i, position: CAST(n AS INTEGER)}}) AS candidates
FROM read_parquet('{log}');

CREATE TABLE interaction AS
SELECT impression_id || '/' || item_id AS interaction_id, impression_id, user_id, item_id, 'click' AS kind,
    NULL::DOUBLE AS value, shown_at::TIMESTAMP AS happened_at, shown_at::TIMESTAMP AS known_at
FROM (SELECT *, unnest(clicked) AS item_id FROM read_parquet('{log}'));
""",
    "candidates": """
CREATE TABLE impression AS
SELECT impression_id, first(user_id) AS user_id, first(shown_at)::TIMESTAMP AS shown_at,
    NULL::VARCHAR AS session_id,
    list_transform(list(items ORDER BY file_row_number),
        lambda i, n: {{item_id: i, position: CAST(n AS INTEGER)}}) AS candidates
FROM read_parquet('{log}', file_row_number = true)
WHERE user_id <> '' AND shown_at IS NOT NULL AND items <> '' AND clicked IS NOT NULL
GROUP BY impression_id;

CREATE TABLE interaction AS
SELECT impression_id || '/' || items AS interaction_id, impression_id, user_id, items AS item_id, 'click' AS kind,
    clicked::DOUBLE AS value, shown_at::TIMESTAMP AS happened_at, shown_at::TIMESTAMP AS known_at
FROM read_parquet('{log}') WHERE clicked > 0;
""",
}
_SQL_BOTH = """
CREATE TABLE IF NOT EXISTS item (item_id VARCHAR, known_at TIMESTAMP, title VARCHAR);

CREATE TABLE items AS FROM item WHERE rowid IN (
    SELECT min(rowid) FROM item
    WHERE item_id <> '' AND title IS NOT NULL AND known_at < '{until}' GROUP BY item_id, known_at);

CREATE TABLE impressions AS FROM impression WHERE rowid IN (
    SELECT arg_min(rowid, shown_at) FROM impression
    WHERE impression_id <> '' AND user_id <> '' AND shown_at >= '{since}' AND shown_at < '{until}'
        AND len(candidates) > 0 AND list_unique(list_transform(candidates, lambda c: c.item_id)) = len(candidates)
    GROUP BY impression_id);

CREATE TABLE sound AS
SELECT interaction.* FROM interaction LEFT JOIN impressions USING (impression_id)
WHERE interaction_id <> '' AND interaction.user_id <> '' AND item_id <> '' AND kind <> ''
    AND happened_at <= known_at AND known_at >= '{since}' AND known_at < '{until}'
    AND (impressions.user_id IS NULL OR (impressions.user_id = interaction.user_id
        AND list_contains(list_transform(candidates, lambda c: c.item_id), item_id)));

CREATE TABLE interactions AS FROM sound WHERE rowid IN (
    SELECT arg_min(rowid, known_at) FROM sound GROUP BY interaction_id)
"""
