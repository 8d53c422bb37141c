"""Readers, one per wire format: the only wire-format knowledge. `events.py` evaluates what they read."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from features.config.project import Project
from features.errors import SourceError
from features.sources import jsonl_events, mind, tables
from features.sources.files import LogFile, find, resolve
from features.sources.raw import FORGOTTEN, Hide, RawEvents, as_logged, gather, together
from features.sources.reject_hints import hint
from features.sources.sampling import Past

__all__ = ["LogFile", "Past", "RawEvents", "chunks", "log_files", "read", "require_rows", "resolve"]


def log_files(project: Project, paths: Sequence[Path]) -> list[LogFile]:
    """What is to be parsed, in order: items tables first. Raises SourceError where a path holds no log."""
    if project.source.format == "mind":
        return [mind.files(paths)]
    if project.source.format == "tables":
        return tables.files(project, paths)
    return [LogFile((file,)) for file in find(paths, jsonl_events.SUFFIXES)]


def chunks(
    project: Project, file: LogFile, hide: Hide = as_logged, past: Past | None = None
) -> Iterator[RawEvents]:
    """Parse a file, about `source.chunk_rows` rows and candidates at a time: that many are in memory.

    User ids pass through `hide` first. `past`: what lists of shape `interactions` are drawn from.
    """
    if project.source.format == "mind":
        pieces = mind.chunks(project, file, hide)
    elif project.source.format == "tables":
        pieces = tables.chunks(project, file, hide, past)
    else:
        pieces = jsonl_events.chunks(project, file, hide)
    kept: list[RawEvents] = []
    for piece in pieces:
        kept.append(piece)
        if sum(part.size for part in kept) >= project.source.chunk_rows:
            yield together(kept)
            kept = []
    if kept:
        yield together(kept)


def read(project: Project, paths: Sequence[Path], hide: Hide = as_logged) -> RawEvents:
    """All rows of a project's logs at once, where they are few. Raises what `log_files` and `chunks` raise."""
    past = Past()
    pieces = [chunk for file in log_files(project, paths) for chunk in chunks(project, file, hide, past)]
    return together(pieces) if pieces else gather()


def require_rows(rows: int, rejects: pl.DataFrame, project: Project) -> None:
    """Raise SourceError where not one of the rows could be read. The message quotes no row: it may be stored."""
    if rows > rejects.height or FORGOTTEN in rejects["reason"]:
        return
    found = "it is empty"
    if rows:
        reason, count = rejects["reason"].value_counts(sort=True).row(0)
        source, line = rejects.filter(reason=reason).select("source", "line").row(0)
        said = hint(reason, tables=project.source.format == "tables")
        found = f"{count:,} × {reason}, the first in {source} line {line}. {said}".rstrip()
    raise SourceError(
        f'no readable row in the log of format "{project.source.format}" (source.format in the project file): '
        f"{found}"
    )
