"""Any CSV, Parquet or JSON-lines log, through the column mapping of `[source.tables]`; four shapes.

- `lists`: a row is an impression, with list columns of the ids shown and clicked (real lists, JSON, the output of
  Postgres and Python, or text separated by whitespace or by `source.tables.separator`).
- `candidates`: a row is a candidate; rows of one impression share its id (else user and instant) and are in the
  order shown; `clicked` is 0/1, true/false, yes/no or a grade.
- `interactions`: a row is an interaction; the other candidates are sampled point-in-time (`sampling.py`).
- `ratings`: a row is an impression of one item with a grade, or without one: an unlabelled impression.

These logs date impressions, not interactions: an interaction happens at its row's instant and is known at
`known_at` if that column is mapped, else `source.known_after` later. Items come from `items_path`, from the log's own
rows (`items_in_log`), or are ids only; a categorical cell holds a value, a JSON list, or values separated by `|`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl

from features.config.sections import Context, ItemFields, ReaderConfig, TableMapping
from features.errors import SourceError
from features.sources.cells import SPACES, find_separator, read_ids, read_values
from features.sources.files import LogFile, Reader, find, resolve
from features.sources.instants import read_instants
from features.sources.item_rows import (
    FIELD,
    UNLABELLED,
    before_first_slice,
    context_values,
    item_rows,
    names_of,
)
from features.sources.raw import INSTANT, Hide, RawEvents, as_logged, gather, refuse, with_positions
from features.sources.sampling import Past, draw_lists
from features.sources.table_files import SUFFIXES, read_pieces
from features.sources.table_rows import split_rejects
from features.threads import work_ahead

_PIECE_ROWS = 1 << 14
_PIECES = 16
"""Rows are split into this many pieces of at least `_PIECE_ROWS` rows, which threads process."""


def files(config: ReaderConfig, paths: Sequence[Path]) -> list[LogFile]:
    """List the items tables, searched for beside the project file and the log, then the log's files.

    Raises SourceError if a file is missing or the mapping is incomplete.
    """
    mapping = config.source.tables
    if mapping is None:
        raise SourceError('format "tables" needs a [source.tables] section with a shape')
    if mapping.shape != "interactions" and mapping.clicked is None:
        raise SourceError(
            f"shape {mapping.shape!r} needs source.tables.clicked: name the column of clicks or grades"
        )
    log = [LogFile((file,)) for file in find(paths, SUFFIXES)]
    if mapping.items_path is None:
        return log
    items_paths = (mapping.items_path,) if isinstance(mapping.items_path, str) else mapping.items_path
    log_paths = (config.source.path,) if isinstance(config.source.path, str) else config.source.path
    depth = max(len(Path(path).parts) for path in log_paths)
    folders = [
        config.folder,
        *(parent for path in paths for parent in [path, *path.resolve().parents][: depth + 1]),
    ]
    tables = find([path for name in items_paths for path in resolve(name, folders)], SUFFIXES)
    return [*(LogFile((file,), items=True) for file in tables), *log]


def chunks(
    config: ReaderConfig, file: LogFile, hide: Hide = as_logged, past: Past | None = None
) -> Iterator[RawEvents]:
    """Read a file of a mapped log, or of its items, at most `source.chunk_rows` rows at a time.

    Ids are stripped. For shape `interactions`, candidates are sampled from `past` and from the file's own rows,
    which are added to `past`. Raises SourceError if the file cannot be read or lacks a mapped column.
    """
    mapping = config.source.tables
    assert mapping is not None  # checked by `files`
    if file.items:
        yield from _items(config, mapping, file, past)
        return
    context = config.context
    optional = {FIELD + name: name for name in context.fields}
    required = _log_columns(mapping)
    if mapping.items_in_log:
        optional |= {FIELD + config.items.body: config.items.body} if config.items.body else {}
        required |= {FIELD + name: name for name in names_of(config.items) if FIELD + name not in optional}
    left: pl.DataFrame | None = None
    for read in read_pieces(file, required, optional, config.source.chunk_rows, quoted=False):
        pieces = _pieces(read.frame, mapping)
        parts = list(work_ahead(lambda piece: _read_part(*piece, config, mapping, hide), pieces))
        items = [part.items for part in parts if part.items is not None]
        interactions = [part.interactions for part in parts]
        rejects = [read.rejects, *(part.rejects for part in parts)]
        logs = [*([] if left is None else [left]), *(part.log for part in parts)]
        left = None
        if logs:
            log = pl.concat(logs)
            if mapping.shape == "interactions":
                log = log.with_columns(_draw(log, mapping, config.seed, past or Past()))
            elif mapping.shape == "candidates":
                # The last impression may continue in the next piece.
                log = _merge(log)
                log, left = log[:-1], log[-1:]
            yield gather(items, [_impressions(log, context, mapping)], interactions, rejects, read.quotes)
        else:
            yield gather(rejects=rejects)
    if left is not None:
        yield gather([], [_impressions(left, context, mapping)], quotes=read.quotes)


TABLES = Reader(files, chunks)


def _impressions(log: pl.DataFrame, context: Context, mapping: TableMapping) -> pl.DataFrame:
    fields = ("item_id", "propensity") if mapping.propensity else ()
    candidates = with_positions(pl.col("items"), *fields).alias("candidates")
    rows = log.rename({"at": "shown_at"}).with_columns(candidates, context=context_values(context))
    if mapping.shape != "ratings":
        return rows
    marked = pl.concat_list("context", pl.struct(name=pl.lit(UNLABELLED), value=pl.lit("true")))
    return rows.with_columns(context=pl.when(pl.col("grade").is_null()).then(marked).otherwise("context"))


def _draw(log: pl.DataFrame, mapping: TableMapping, seed: int, past: Past) -> pl.Series:
    rows = log.select("known", "at", key="impression_id", item="item_id")
    lists = draw_lists(rows, past, mapping.sampled, seed)
    past.add(rows=rows)
    return lists


@dataclass(frozen=True)
class _Part:
    """Some rows of the log, as impressions and as interactions.

    Impressions have what they show in `items`: ids, or structs with propensities. Those of shape `interactions` have
    `item_id`, because candidates are sampled later, from all rows.
    """

    log: pl.DataFrame
    interactions: pl.DataFrame
    rejects: pl.DataFrame
    items: pl.DataFrame | None = None


def _pieces(frame: pl.DataFrame, mapping: TableMapping) -> Iterator[tuple[pl.DataFrame, str]]:
    """Split rows into pieces, each with the separator of ids in its text cells."""
    if frame.is_empty():
        return
    separator = mapping.separator.strip() or SPACES
    if mapping.shape == "lists" and not mapping.separator:
        separator = find_separator(frame["source"][0], [frame["item"], frame["clicked"]])
    for piece in frame.iter_slices(max(_PIECE_ROWS, frame.height // _PIECES)):
        yield piece, separator


def _read_part(
    piece: pl.DataFrame, separator: str, config: ReaderConfig, mapping: TableMapping, hide: Hide
) -> _Part:
    log, rejects = split_rejects(piece, config, mapping, separator, hide)
    if mapping.shape == "lists":
        return _Part(log.drop("clicked_items"), _clicks_in_lists(log, mapping), rejects)
    graded = mapping.shape != "interactions"
    positive = log.filter(pl.col("grade") > mapping.threshold) if graded else log
    items = _described(log, config.items, mapping) if mapping.items_in_log else None
    shown = pl.struct("item_id", "propensity") if mapping.propensity else pl.col("item_id")
    if mapping.shape == "ratings":
        log = log.with_columns(items=pl.concat_list(shown))
    elif mapping.shape == "candidates":
        log = _fold(log, shown)
    return _Part(log, _interactions(positive, mapping), rejects, items)


def _described(log: pl.DataFrame, declared: ItemFields, mapping: TableMapping) -> pl.DataFrame:
    """Items as the log's rows describe them, known from just before their first row."""
    known_at = pl.col("at") - timedelta(microseconds=1)
    rows = log.with_columns(_item_fields(log, declared), known_at=known_at)
    return item_rows(rows.unique("item_id", keep="first", maintain_order=True), declared, mapping.time_format)


def _item_fields(frame: pl.DataFrame, declared: ItemFields) -> list[pl.Series]:
    """The item fields of a table, each a list of text; fields of the context are such lists already."""
    return [
        read_values(frame[FIELD + name], split=name in declared.categorical)
        for name in names_of(declared)
        if frame.schema.get(FIELD + name, pl.List) != pl.List
    ]


def _fold(log: pl.DataFrame, shown: pl.Expr) -> pl.DataFrame:
    """Fold adjacent rows of one impression into one row, with the values of `shown` in `items`."""
    first = pl.all().exclude("run", "item_id", "propensity", "grade", "known").first()
    runs = log.with_columns(run=log["impression_id"].rle_id().set_sorted())
    return runs.group_by("run", maintain_order=True).agg(first, items=shown).drop("run")


def _merge(lists: pl.DataFrame) -> pl.DataFrame:
    """Merge rows of one impression that were not adjacent."""
    if lists["impression_id"].n_unique() == lists.height:
        return lists
    first = pl.all().exclude("impression_id", "items").first()
    merged = lists.group_by("impression_id", maintain_order=True).agg(first, pl.col("items").explode())
    return merged.select(lists.columns)


def _log_columns(mapping: TableMapping) -> dict[str, str]:
    columns = {
        "user": mapping.user,
        "time": mapping.at,
        "item": mapping.item,
        "clicked": None if mapping.shape == "interactions" else mapping.clicked,
        "impression": mapping.impression,
        "session": mapping.session,
        "known_at": mapping.known_at,
        "propensities": mapping.propensity,
    }
    return {key: column for key, column in columns.items() if column is not None}


def _clicks_in_lists(log: pl.DataFrame, mapping: TableMapping) -> pl.DataFrame:
    clicked = log.filter(pl.col("clicked_items").list.len() > 0).select(
        pl.all().exclude("items", "clicked_items"),
        item_id=pl.col("clicked_items").list.unique(maintain_order=True),
    )
    clicked = clicked.explode("item_id").drop_nulls("item_id")
    return _interactions(clicked.with_columns(raw="item_id"), mapping)


def _interactions(rows: pl.DataFrame, mapping: TableMapping) -> pl.DataFrame:
    grade = pl.col("grade") if "grade" in rows.columns else pl.lit(None, pl.Float64)
    return rows.select(
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
    config: ReaderConfig, mapping: TableMapping, file: LogFile, past: Past | None
) -> Iterator[RawEvents]:
    """Read an items table."""
    declared = config.items
    required = {"item_id": mapping.item_key}
    if mapping.item_at is not None:
        required["known_at"] = mapping.item_at
    required |= {FIELD + name: name for name in names_of(declared)}
    # A table may lack the body, whose column has a default name.
    body = {FIELD + declared.body: required.pop(FIELD + declared.body)} if declared.body else {}
    for read in read_pieces(file, required, body, config.source.chunk_rows):
        frame = read.frame
        if frame.is_empty():
            yield gather(rejects=[read.rejects])
            continue
        default = pl.Series("known_at", [before_first_slice(config.start)], INSTANT).new_from_index(
            0, frame.height
        )
        known = read_instants(frame["known_at"], mapping.time_format) if mapping.item_at else default
        fields = _item_fields(frame, declared)
        rows = frame.with_columns(read_ids(frame["item_id"]), known.alias("known_at"), *fields)
        kept, refused = refuse(rows, [("bad_timestamp", pl.col("known_at").is_null())])
        items = item_rows(kept, declared, mapping.time_format)
        if past:
            past.add(items=items.select("item_id", "known_at").drop_nulls())
        yield gather([items], rejects=[read.rejects, refused])
