"""Any CSV, Parquet or JSON-lines log, through the column mapping of `[source.tables]`; four shapes.

- `lists`: a row is an impression, with list columns of the ids shown and taken (real lists, JSON, or text
  separated by spaces).
- `candidates`: a row is a candidate; rows of one impression share its id (else user and instant) and stand in
  the order shown; `clicked` is 0/1 or a grade.
- `interactions`: a row is an interaction; the list around it is drawn as of its moment (`sampling.py`).
- `ratings`: a row is a list of one item with a grade.

These logs say when a list was shown, not when it was acted on: an interaction happens at its row's instant
and is known at `known_at` where that column is mapped, else `source.known_after` later. Items come from
`items_path`, or are ids alone; a categorical cell there holds a value, a JSON list, or values parted by `|`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from features.errors import SourceError
from features.project import Project, TableMapping
from features.sources.files import resolve
from features.sources.instants import read_instants
from features.sources.items import before_everything, item_rows, text_of
from features.sources.raw import INSTANT, SCHEMAS, RawEvents, absent, gather, numbered, refuse
from features.sources.sampling import draw_lists
from features.sources.table_files import read_tables

_FIELD = "field:"
"""Before an item's fields, whose names are the log's own and might be ours as well."""


def read(project: Project, paths: Sequence[Path]) -> RawEvents:
    """Read a mapped log and its items.

    Raises SourceError where a file cannot be read, or a mapped column is not in it.
    """
    mapping = project.source.tables
    if mapping is None:
        raise SourceError('format "tables" needs a [source.tables] section with a shape')
    if mapping.shape != "interactions" and mapping.clicked is None:
        raise SourceError(
            f"shape {mapping.shape!r} needs source.tables.clicked: name the column of what was taken"
        )
    items, item_rejects = _items(project, mapping, paths)
    frames, broken = read_tables(paths, _log_columns(mapping))
    judged = [_judge(frame, project, mapping) for frame in frames]
    rejects = [*item_rejects, *broken, *(refused for _, refused in judged)]
    if not judged:
        return gather([items], rejects=rejects)
    log = pl.concat([rows for rows, _ in judged])
    if mapping.shape == "lists":
        return gather([items], [_impressions(log)], [_taken_in_lists(log, mapping)], rejects)
    taken = log if mapping.shape == "interactions" else log.filter(pl.col("grade") > mapping.threshold)
    interactions = _interactions(taken, mapping)
    if mapping.shape == "candidates":
        log = log.group_by("impression_id", maintain_order=True).agg(
            pl.col("source", "line", "raw", "user_id", "at", "session_id").first(), items=pl.col("item_id")
        )
    elif mapping.shape == "ratings":
        log = log.with_columns(items=pl.concat_list("item_id"))
    else:
        rows = log.select("known", "at", key="impression_id", item="item_id")
        known = items.select("item_id", "known_at").drop_nulls()
        log = log.with_columns(draw_lists(rows, known, mapping.sampled, project.seed))
    return gather([items], [_impressions(log)], [interactions], rejects)


def _log_columns(mapping: TableMapping) -> dict[str, str]:
    named = {
        "user": mapping.user,
        "time": mapping.at,
        "item": mapping.item,
        "clicked": None if mapping.shape == "interactions" else mapping.clicked,
        "impression": mapping.impression,
        "session": mapping.session,
        "known_at": mapping.known_at,
    }
    return {key: column for key, column in named.items() if column is not None}


def _judge(frame: pl.DataFrame, project: Project, mapping: TableMapping) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Cells in our types (`impression_id, user_id, session_id, at, known`, then `items, taken`, or `item_id` and,
    where there is one, `grade`), and the rows whose cells are none.
    """
    at = read_instants(frame["time"])
    unread = pl.Series("time_unread", at.is_null() & frame["time"].is_not_null())
    columns = [_ids(frame["user"]).alias("user_id"), at.alias("at"), unread]
    known = (
        read_instants(frame["known_at"]) if "known_at" in frame.columns else pl.Series([None], dtype=INSTANT)
    )
    known = known if len(known) == frame.height else known.new_from_index(0, frame.height)
    columns.append(known.alias("known"))
    session = (
        frame["session"] if "session" in frame.columns else pl.Series([None]).new_from_index(0, frame.height)
    )
    columns.append(_ids(session).alias("session_id"))
    rules = [
        ("missing_field:user", absent("user_id")),
        ("bad_timestamp", pl.col("time_unread")),
        ("missing_field:timestamp", pl.col("at").is_null()),
    ]
    if "known_at" in frame.columns:
        rules.append(("bad_timestamp:known_at", pl.col("known").is_null() & pl.col("known_at").is_not_null()))
    moment = pl.format("{}@{}", "user_id", pl.col("at").dt.epoch("us"))
    if mapping.shape == "lists":
        columns += [_id_lists(frame["item"]).alias("items"), _id_lists(frame["clicked"]).alias("taken")]
        rules += [
            ("missing_field:items", pl.col("item").is_null()),
            ("bad_list:items", pl.col("items").is_null()),
            ("empty_list", pl.col("items").list.len() == 0),
            ("bad_list:clicked", pl.col("taken").is_null() & pl.col("clicked").is_not_null()),
        ]
    else:
        columns.append(_ids(frame["item"]).alias("item_id"))
        rules.append(("missing_field:item", absent("item_id")))
        moment = moment if mapping.shape == "candidates" else pl.format("{}:{}", moment, "item_id")
    if mapping.shape in ("candidates", "ratings"):
        columns.append(frame["clicked"].cast(pl.Float64, strict=False).alias("grade"))
        rules += [
            ("missing_field:clicked", pl.col("clicked").is_null()),
            ("bad_number:clicked", pl.col("grade").is_null() | pl.col("grade").is_nan()),
        ]
    if mapping.impression is not None:
        columns.append(_ids(frame["impression"]).alias("impression_id"))
        rules.append(("missing_field:id", absent("impression_id")))
    cells = frame.with_columns(columns)
    kept, rejects = refuse(cells, rules, at="at")
    if mapping.impression is None:
        kept = kept.with_columns(moment.alias("impression_id"))
    known_at = pl.coalesce("known", pl.col("at") + project.source.known_after)
    return kept.drop(set(frame.columns) - {"source", "line", "raw"}).with_columns(known=known_at), rejects


def _ids(values: pl.Series) -> pl.Series:
    """Ids as text; whole floats (a column of integers with gaps) without their fraction."""
    if values.dtype.is_float():
        whole = values.cast(pl.Int64, strict=False)
        return whole.cast(pl.String).zip_with((whole == values).fill_null(False), values.cast(pl.String))
    return values.cast(pl.String)


def _id_lists(values: pl.Series) -> pl.Series:
    """Lists of ids from real lists, JSON lists or text parted by spaces; null where a JSON list is broken."""
    if isinstance(values.dtype, pl.List | pl.Array):
        return values.cast(pl.List(pl.String))
    texts = values.cast(pl.String).str.strip_chars()
    is_json = texts.str.starts_with("[").fill_null(False)
    lists = texts.str.extract_all(r"\S+")
    if not is_json.any():
        return lists
    read = pl.Series([_json_list(text) for text in texts.filter(is_json)], dtype=pl.List(pl.String))
    rows = pl.DataFrame({"at": is_json.arg_true(), "read": read})
    every = (
        lists.alias("list")
        .to_frame()
        .with_row_index("at")
        .join(rows, on="at", how="left", maintain_order="left")
    )
    return every.with_columns(is_json.alias("is_json")).select(
        pl.when("is_json").then("read").otherwise("list").alias(values.name)
    )[values.name]


def _json_list(text: str) -> list[str | None] | None:
    try:
        read = json.loads(text)
    except ValueError:
        return None
    return [text_of(item) for item in read]


def _impressions(log: pl.DataFrame) -> pl.DataFrame:
    candidates = numbered(pl.col("items")).alias("candidates")
    return log.rename({"at": "shown_at"}).with_columns(candidates)


def _taken_in_lists(log: pl.DataFrame, mapping: TableMapping) -> pl.DataFrame:
    taken = log.with_columns(pl.col("taken").list.drop_nulls().list.unique(maintain_order=True))
    taken = taken.filter(pl.col("taken").list.len() > 0).explode("taken").rename({"taken": "item_id"})
    return _interactions(taken.with_columns(raw="item_id"), mapping)


def _interactions(taken: pl.DataFrame, mapping: TableMapping) -> pl.DataFrame:
    grade = pl.col("grade") if "grade" in taken.columns else pl.lit(None, pl.Float64)
    return taken.select(
        "source",
        "line",
        "raw",
        "impression_id",
        "user_id",
        "item_id",
        interaction_id=pl.concat_str("impression_id", "item_id", separator="/"),
        kind=pl.lit(mapping.kind),
        value=grade,
        happened_at="at",
        known_at="known",
    )


def _items(
    project: Project, mapping: TableMapping, paths: Sequence[Path]
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Rows of the items tables, looked for beside the project file and beside the log."""
    if mapping.items_path is None:
        return SCHEMAS["items"].to_frame(), []
    wanted = (mapping.items_path,) if isinstance(mapping.items_path, str) else mapping.items_path
    log_paths = (project.source.path,) if isinstance(project.source.path, str) else project.source.path
    depth = max(len(Path(path).parts) for path in log_paths)
    folders = [
        project.folder,
        *(parent for path in paths for parent in [path, *path.resolve().parents][: depth + 1]),
    ]
    found = [path for name in wanted for path in resolve(name, folders)]
    declared = project.items
    named = [declared.title, declared.published_at, *declared.numeric, *declared.categorical]
    needed = {"item_id": mapping.item_key} | {_FIELD + name: name for name in named if name}
    if mapping.item_at is not None:
        needed["known_at"] = mapping.item_at
    # The body has a default name, which a log may well lack; all else was named on purpose.
    frames, rejects = read_tables(found, needed, {_FIELD + declared.body: declared.body})
    pieces: list[pl.DataFrame] = []
    for frame in frames:
        first = pl.Series("known_at", [before_everything(project)], INSTANT).new_from_index(0, frame.height)
        known = read_instants(frame["known_at"]) if mapping.item_at else first
        rows = frame.with_columns(_ids(frame["item_id"]), known.alias("known_at"))
        kept, refused = refuse(rows, [("bad_timestamp", pl.col("known_at").is_null())])
        rejects.append(refused)
        cells = kept.select(pl.col(f"^{_FIELD}.*$").name.map(lambda name: name.removeprefix(_FIELD)))
        fields = [{name: _value(cell) for name, cell in row.items()} for row in cells.iter_rows(named=True)]
        for row in fields:
            row.update({name: _values(row[name]) for name in declared.categorical})
        place = kept.select("item_id", "known_at", "source", "line", "raw")
        pieces.append(item_rows(place, fields, declared))
    return (pl.concat(pieces) if pieces else SCHEMAS["items"].to_frame()), rejects


def _value(cell: Any) -> Any:
    return cell.isoformat() if hasattr(cell, "isoformat") else cell


def _values(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    return _json_list(cell) if cell.startswith("[") else cell.split("|")
