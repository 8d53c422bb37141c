"""Log readers, one per wire format. `features.events.validation` checks the rows that they return."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from features.config.extensions import resolve_as
from features.config.sections import READERS, ReaderConfig
from features.errors import SourceError
from features.sources.files import LogFile, Reader, resolve
from features.sources.raw import FORGOTTEN, Hide, RawEvents, as_logged, concat_events, gather
from features.sources.reject_hints import hint
from features.sources.sampling import Past

__all__ = ["LogFile", "Past", "RawEvents", "chunks", "log_files", "read", "require_rows", "resolve"]


def log_files(config: ReaderConfig, paths: Sequence[Path]) -> list[LogFile]:
    """List the files to parse, in order: items tables first. Raises SourceError if a path holds no log."""
    return _reader(config.source.format).files(config, paths)


def chunks(
    config: ReaderConfig, file: LogFile, hide: Hide = as_logged, past: Past | None = None
) -> Iterator[RawEvents]:
    """Parse a file in chunks of about `source.chunk_rows` rows and candidates, to bound memory.

    `hide` maps user ids before any other id is built from them. `past` is the pool from which the
    candidates of shape `interactions` are sampled.
    """
    buffered: list[RawEvents] = []
    for piece in _reader(config.source.format).chunks(config, file, hide, past):
        buffered.append(piece)
        if sum(part.size for part in buffered) >= config.source.chunk_rows:
            yield concat_events(buffered)
            buffered = []
    if buffered:
        yield concat_events(buffered)


def _reader(source_format: str) -> Reader:
    reader: Reader = resolve_as(Reader, READERS.get(source_format, source_format), "source.format")
    return reader


def read(config: ReaderConfig, paths: Sequence[Path], hide: Hide = as_logged) -> RawEvents:
    """Read small logs at once. Raises what `log_files` and `chunks` raise."""
    past = Past()
    pieces = [chunk for file in log_files(config, paths) for chunk in chunks(config, file, hide, past)]
    return concat_events(pieces) if pieces else gather()


def require_rows(rows: int, rejects: pl.DataFrame, log_format: str) -> None:
    """Raise SourceError if every row was rejected. The message quotes no row, because it may be stored."""
    if rows > rejects.height or FORGOTTEN in rejects["reason"]:
        return
    problem = "it is empty"
    if rows:
        reason, count = rejects["reason"].value_counts(sort=True).row(0)
        source, line = rejects.filter(reason=reason).select("source", "line").row(0)
        advice = hint(reason, tables=log_format == "tables")
        problem = f"{count:,} × {reason}, the first in {source} line {line}. {advice}".rstrip()
    raise SourceError(
        f'no readable row in the log of format "{log_format}" (source.format in the project file): {problem}'
    )
