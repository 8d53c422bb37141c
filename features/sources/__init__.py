"""Readers, one per wire format: the only wire-format knowledge. `events.py` judges what they read."""

from collections.abc import Sequence
from pathlib import Path

from features.errors import SourceError
from features.project import Project
from features.reject_hints import hint
from features.sources import jsonl_events, mind, tables
from features.sources.files import resolve
from features.sources.raw import FORGOTTEN, Hide, RawEvents, as_logged

__all__ = ["RawEvents", "read", "require_rows", "resolve"]

_READERS = {
    "metarank": jsonl_events.read,
    "newsroom": jsonl_events.read,
    "mind": mind.read,
    "tables": tables.read,
}


def read(project: Project, paths: Sequence[Path], hide: Hide = as_logged) -> RawEvents:
    """Read a project's logs with the reader of its wire format; user ids pass through `hide` first.

    Raises SourceError for a path that is missing or of an unknown type.
    """
    return _READERS[project.source.format](project, paths, hide)


def require_rows(raw: RawEvents, project: Project) -> None:
    """Raise SourceError where not one row could be read. The message quotes no row: it may be stored."""
    if raw.height > raw.rejects.height or FORGOTTEN in raw.rejects["reason"]:
        return
    if not raw.height:
        found = "it is empty"
    else:
        reason, count = raw.rejects["reason"].value_counts(sort=True).row(0)
        tables = project.source.format == "tables"
        source, line = raw.rejects.filter(reason=reason).select("source", "line").row(0)
        found = (
            f"{count:,} × {reason}, the first in {source} line {line}. {hint(reason, tables=tables)}".rstrip()
        )
    raise SourceError(
        f'no readable row in the log of format "{project.source.format}" (source.format in the project file): '
        f"{found}"
    )
