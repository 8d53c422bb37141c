"""Readers, one per wire format: the only wire-format knowledge. `events.py` judges what they read."""

from collections.abc import Sequence
from pathlib import Path

from features.errors import SourceError
from features.project import Project
from features.sources import jsonl_events, mind, tables
from features.sources.files import resolve
from features.sources.raw import RawEvents

__all__ = ["RawEvents", "read", "resolve"]

_READERS = {
    "metarank": jsonl_events.read,
    "newsroom": jsonl_events.read,
    "mind": mind.read,
    "tables": tables.read,
}


def read(project: Project, paths: Sequence[Path]) -> RawEvents:
    """Read a project's logs with the reader of its wire format.

    Raises SourceError for a path that is missing or of an unknown type, and where not one row can be read.
    """
    raw = _READERS[project.source.format](project, paths)
    if raw.height == raw.rejects.height:
        reasons = raw.rejects["reason"].value_counts(sort=True).head(3).rows()
        found = ", ".join(f"{count} × {reason}" for reason, count in reasons) or "nothing at all"
        raise SourceError(
            f"no readable row in {', '.join(map(str, paths))}: found {found}. "
            f'Expected logs of format "{project.source.format}" (source.format in the project file).'
        )
    return raw
