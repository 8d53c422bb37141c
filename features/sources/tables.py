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

from features.errors import SourceError
from features.project import Project
from features.sections import TableMapping
from features.sources.ahead import work_ahead
from features.sources.cells import SPACES, find_separator, read_ids, read_values
from features.sources.files import resolve
from features.sources.instants import read_instants
from features.sources.items import FIELD, before_everything, item_rows, named_values, names_of
from features.sources.raw import INSTANT, SCHEMAS, Hide, RawEvents, as_logged, gather, numbered, refuse
from features.sources.sampling import draw_lists
from features.sources.table_files import read_tables
from features.sources.table_rows import judge

_PIECE_ROWS = 1 << 14
_PIECES = 16
"""A log is worked on in pieces of a sixteenth, but of no fewer rows than these."""


def read(project: Project, paths: Sequence[Path], hide: Hide = as_logged) -> RawEvents:
    """Read a mapped log and its items. Ids lose the blanks around them.

    Raises SourceError where a file cannot be read, or a mapped column is not in it.
    """
    mapping = project.source.tables
    if mapping is None:
        raise SourceError('format "tables" needs a [source.tables] section with a shape')
    if mapping.shape != "interactions" and mapping.clicked is None:
        raise SourceError(
            f"shape {mapping.shape!r} needs source.tables.clicked: name the column of clicks or grades"
        )
    items, item_rejects = _items(project, mapping, paths)
    context = project.context.categorical
    found = read_tables(paths, _log_columns(mapping), {FIELD + name: name for name in context}, quoted=False)
    pieces = (piece for frame in found.frames for piece in _pieces(frame, mapping))
    parts = list(work_ahead(lambda piece: _read_part(*piece, project, mapping, hide), pieces))
    rejects = [*item_rejects, *found.rejects, *(part.rejects for part in parts)]
    if not parts:
        return gather([items], rejects=rejects)
    log = pl.concat([part.log for part in parts])
    if mapping.shape == "interactions":
        rows = log.select("known", "at", key="impression_id", item="item_id")
        known = items.select("item_id", "known_at").drop_nulls()
        log = log.with_columns(draw_lists(rows, known, mapping.sampled, project.seed))
    elif mapping.shape == "candidates":
        log = _merge(log)
    candidates = numbered(pl.col("items")).alias("candidates")
    impressions = log.rename({"at": "shown_at"}).with_columns(candidates, context=named_values(context))
    return gather([items], [impressions], [part.interactions for part in parts], rejects, found.quotes)


@dataclass(frozen=True)
class _Part:
    """Some rows of the log: as impressions, with the ids shown in `items` (in shape `interactions` still
    `item_id`, for lists are drawn from the whole log), and as interactions.
    """

    log: pl.DataFrame
    interactions: pl.DataFrame
    rejects: pl.DataFrame


def _pieces(frame: pl.DataFrame, mapping: TableMapping) -> Iterator[tuple[pl.DataFrame, str]]:
    """Pieces of a file, with what parts the ids of its text cells. No file is read in another way beside others."""
    separator = mapping.separator.strip() or SPACES
    if mapping.shape == "lists" and not mapping.separator:
        separator = find_separator(frame["source"][0], [frame["item"], frame["clicked"]])
    for piece in frame.iter_slices(max(_PIECE_ROWS, frame.height // _PIECES)):
        yield piece, separator


def _read_part(
    piece: pl.DataFrame, separator: str, project: Project, mapping: TableMapping, hide: Hide
) -> _Part:
    log, rejects = judge(piece, project, mapping, separator, hide)
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
    return lists.group_by("impression_id", maintain_order=True).agg(first, pl.col("items").explode())


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
    needed = {"item_id": mapping.item_key}
    if mapping.item_at is not None:
        needed["known_at"] = mapping.item_at
    # The body has a default name, which a log may well lack; all else was named on purpose.
    named = {FIELD + name: name for name in names_of(declared)}
    body = {FIELD + declared.body: named.pop(FIELD + declared.body)} if declared.body else {}
    read = read_tables(found, {**needed, **named}, body)
    rejects = read.rejects
    pieces: list[pl.DataFrame] = []
    for frame in read.frames:
        first = pl.Series("known_at", [before_everything(project)], INSTANT).new_from_index(0, frame.height)
        known = read_instants(frame["known_at"], mapping.time_format) if mapping.item_at else first
        fields = [
            read_values(frame[FIELD + name], parted=name in declared.categorical)
            for name in names_of(declared)
            if FIELD + name in frame.columns
        ]
        rows = frame.with_columns(read_ids(frame["item_id"]), known.alias("known_at"), *fields)
        kept, refused = refuse(rows, [("bad_timestamp", pl.col("known_at").is_null())])
        rejects.append(refused)
        pieces.append(item_rows(kept, declared, mapping.time_format))
    return (pl.concat(pieces) if pieces else SCHEMAS["items"].to_frame()), rejects
