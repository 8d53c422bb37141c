"""Atomic writes: a reader sees the old file or the new one, never half of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside `file` to write to, renamed to `file` at the end; nothing is left if the body fails."""
    draft = file.with_name(f".{file.name}-{uuid4()}")
    try:
        yield draft
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
