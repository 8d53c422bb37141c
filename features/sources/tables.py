"""Any CSV, Parquet or JSON-lines log, through the column mapping of `[source.tables]`; four shapes.

- `lists`: a row is an impression, with list columns of the ids shown and clicked (real lists, JSON, what Postgres
  and Python print, or text parted by blanks or by one sign: `source.tables.separator`).
- `candidates`: a row is a candidate; rows of one impression share its id (else user and instant) and stand in
  the order shown; `clicked` is 0/1, true/false, yes/no or a grade.
- `interactions`: a row is an interaction; the list around it is drawn as of its moment (`sampling.py`).
- `ratings`: a row is a list of one item with a grade.

These logs say when a list was shown, not when it was acted on: an interaction happens at its row's instant
and is known at `known_at` where that column is mapped, else `source.known_after` later. Items come from
`items_path`, or are ids alone; a categorical cell there holds a value, a JSON list, or values parted by `|`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from features.config.project import Project
from features.config.sections import TableMapping
from features.errors import SourceError
from features.sources.ahead import work_ahead
from features.sources.cells import SPACES, find_separator, read_ids, read_values
from features.sources.files import LogFile, find, resolve
from features.sources.instants import read_instants
from features.sources.items import FIELD, before_everything, item_rows, named_values, names_of
from features.sources.raw import INSTANT, Hide, RawEvents, as_logged, gather, numbered, refuse
from features.sources.sampling import Past, draw_lists
from features.sources.table_files import SUFFIXES, read_pieces
from features.sources.table_rows import split_rejects

_PIECE_ROWS = 1 << 14
_PIECES = 16
"""Rows are worked on in pieces of a sixteenth, but of no fewer rows than these."""


def files(project: Project, paths: Sequence[Path]) -> list[LogFile]:
    """The items tables, looked for beside the project file and beside the log, then the log's files.

    Raises SourceError where there is none, or for a mapping that says too little.
    """
    mapping = project.source.tables
    if mapping is None:
        raise SourceError('format "tables" needs a [source.tables] section with a shape')
    if mapping.shape != "interactions" and mapping.clicked is None:
        raise SourceError(
            f"shape {mapping.shape!r} needs source.tables.clicked: name the column of clicks or grades"
        )
    log = [LogFile((file,)) for file in find(paths, SUFFIXES)]
    if mapping.items_path is None:
        return log
    wanted = (mapping.items_path,) if isinstance(mapping.items_path, str) else mapping.items_path
    log_paths = (project.source.path,) if isinstance(project.source.path, str) else project.source.path
    depth = max(len(Path(path).parts) for path in log_paths)
    folders = [
        project.folder,
        *(parent for path in paths for parent in [path, *path.resolve().parents][: depth + 1]),
    ]
    found = find([path for name in wanted for path in resolve(name, folders)], SUFFIXES)
    return [*(LogFile((file,), items=True) for file in found), *log]


def chunks(
    project: Project, file: LogFile, hide: Hide = as_logged, past: Past | None = None
) -> Iterator[RawEvents]:
    """Read a file of a mapped log, or of its items, at most `source.chunk_rows` rows at a time.

    Ids lose the blanks around them. `past`: what was known before the file; the lists of shape `interactions` are
    drawn from it and from what the file says, which is added to it.
    Raises SourceError where the file cannot be read, or a mapped column is not in it.
    """
    mapping = project.source.tables
    assert mapping is not None  # `files` says what is missing
    if file.items:
        yield from _items(project, mapping, file, past)
        return
    context = project.context.categorical
    optional = {FIELD + name: name for name in context}
    left: pl.DataFrame | None = None
    for read in read_pieces(file, _log_columns(mapping), optional, project.source.chunk_rows, quoted=False):
        pieces = _pieces(read.frame, mapping)
        parts = list(work_ahead(lambda piece: _read_part(*piece, project, mapping, hide), pieces))
        interactions = [part.interactions for part in parts]
        rejects = [read.rejects, *(part.rejects for part in parts)]
        logs = [*([] if left is None else [left]), *(part.log for part in parts)]
        left = None
        if logs:
            log = pl.concat(logs)
            if mapping.shape == "interactions":
                log = log.with_columns(_draw(log, mapping, project.seed, past or Past()))
            elif mapping.shape == "candidates":
                # The last list may go on in the next piece.
                log = _merge(log)
                log, left = log[:-1], log[-1:]
            yield gather([], [_impressions(log, context)], interactions, rejects, read.quotes)
        else:
            yield gather(rejects=rejects)
    if left is not None:
        yield gather([], [_impressions(left, context)], quotes=read.quotes)


def _impressions(log: pl.DataFrame, context: Sequence[str]) -> pl.DataFrame:
    candidates = numbered(pl.col("items")).alias("candidates")
    return log.rename({"at": "shown_at"}).with_columns(candidates, context=named_values(context))


def _draw(log: pl.DataFrame, mapping: TableMapping, seed: int, past: Past) -> pl.Series:
    rows = log.select("known", "at", key="impression_id", item="item_id")
    lists = draw_lists(rows, past, mapping.sampled, seed)
    past.add(rows=rows)
    return lists


@dataclass(frozen=True)
class _Part:
    """Some rows of the log: as impressions, with the ids shown in `items` (in shape `interactions` still
    `item_id`, for lists are drawn from the whole log), and as interactions.
    """

    log: pl.DataFrame
    interactions: pl.DataFrame
    rejects: pl.DataFrame


def _pieces(frame: pl.DataFrame, mapping: TableMapping) -> Iterator[tuple[pl.DataFrame, str]]:
    """Pieces of some rows, with what parts the ids of their text cells."""
    if frame.is_empty():
        return
    separator = mapping.separator.strip() or SPACES
    if mapping.shape == "lists" and not mapping.separator:
        separator = find_separator(frame["source"][0], [frame["item"], frame["clicked"]])
    for piece in frame.iter_slices(max(_PIECE_ROWS, frame.height // _PIECES)):
        yield piece, separator


def _read_part(
    piece: pl.DataFrame, separator: str, project: Project, mapping: TableMapping, hide: Hide
) -> _Part:
    log, rejects = split_rejects(piece, project, mapping, separator, hide)
    if mapping.shape == "lists":
        return _Part(log.drop("taken"), _taken_in_lists(log, mapping), rejects)
    graded = mapping.shape != "interactions"
    taken = log.filter(pl.col("grade") > mapping.threshold) if graded else log
    if mapping.shape == "ratings":
        log = log.with_columns(items=pl.concat_list("item_id"))
    elif mapping.shape == "candidates":
        log = _fold(log)
    return _Part(log, _interactions(taken, mapping), rejects)


def _fold(log: pl.DataFrame) -> pl.DataFrame:
    """Neighbouring rows of one impression → one row, with the ids shown in `items`."""
    first = pl.all().exclude("run", "item_id", "grade", "known").first()
    runs = log.with_columns(run=log["impression_id"].rle_id().set_sorted())
    return runs.group_by("run", maintain_order=True).agg(first, items="item_id").drop("run")


def _merge(lists: pl.DataFrame) -> pl.DataFrame:
    """One row an impression, though its rows stood apart."""
    if lists["impression_id"].n_unique() == lists.height:
        return lists
    first = pl.all().exclude("impression_id", "items").first()
    merged = lists.group_by("impression_id", maintain_order=True).agg(first, pl.col("items").explode())
    return merged.select(lists.columns)


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


def _taken_in_lists(log: pl.DataFrame, mapping: TableMapping) -> pl.DataFrame:
    taken = log.filter(pl.col("taken").list.len() > 0).select(
        pl.all().exclude("items", "taken"), item_id=pl.col("taken").list.unique(maintain_order=True)
    )
    taken = taken.explode("item_id").drop_nulls("item_id")
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


def _items(project: Project, mapping: TableMapping, file: LogFile, past: Past | None) -> Iterator[RawEvents]:
    """Rows of an items table."""
    declared = project.items
    needed = {"item_id": mapping.item_key}
    if mapping.item_at is not None:
        needed["known_at"] = mapping.item_at
    # The body has a default name, which a log may well lack; all else was named on purpose.
    named = {FIELD + name: name for name in names_of(declared)}
    body = {FIELD + declared.body: named.pop(FIELD + declared.body)} if declared.body else {}
    for read in read_pieces(file, {**needed, **named}, body, project.source.chunk_rows):
        frame = read.frame
        if frame.is_empty():
            yield gather(rejects=[read.rejects])
            continue
        first = pl.Series("known_at", [before_everything(project)], INSTANT).new_from_index(0, frame.height)
        known = read_instants(frame["known_at"], mapping.time_format) if mapping.item_at else first
        fields = [
            read_values(frame[FIELD + name], parted=name in declared.categorical)
            for name in names_of(declared)
            if FIELD + name in frame.columns
        ]
        rows = frame.with_columns(read_ids(frame["item_id"]), known.alias("known_at"), *fields)
        kept, refused = refuse(rows, [("bad_timestamp", pl.col("known_at").is_null())])
        items = item_rows(kept, declared, mapping.time_format)
        if past:
            past.add(items=items.select("item_id", "known_at").drop_nulls())
        yield gather([items], rejects=[read.rejects, refused])
