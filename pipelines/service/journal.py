"""Accepted events on disk, one JSON object per line: synced before they are acknowledged, replayed after a restart.

journal/live-….jsonl.part   the open file; on a restart, an incomplete last line is removed
journal/live-….jsonl        closed files; the daily chain reads a copy from the landing folder, and they
                            are deleted once the newest stored state covers them
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from features.config.slices import microseconds

_PART = ".part"
_BLOCK = 1 << 23


class Journal:
    """An append-only log in files. Several threads may use it."""

    def __init__(self, folder: Path, landing: Path | None, most_bytes: int = 1 << 26) -> None:
        """`landing`: folder to copy closed files to. `most_bytes`: size at which a file is closed."""
        self.folder, self.landing, self._most = folder, landing, most_bytes
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in sorted(folder.glob("*.jsonl.part")):
            _cut_torn_line(part)
            self._close(part)
        self._lock = threading.RLock()
        self._file: int | None = None
        self._path = folder
        self._size = 0

    def files(self) -> list[Path]:
        """All files, oldest first."""
        return sorted(self.folder.glob("live-*.jsonl*"))

    def blocks(self) -> Iterator[bytes]:
        """All complete lines, in blocks of some megabytes without the final newline."""
        for path in self.files():
            rest = b""
            with path.open("rb") as file:
                while piece := file.read(_BLOCK):
                    whole, end, rest = (rest + piece).rpartition(b"\n")
                    if end:
                        yield whole

    def write(self, lines: Sequence[str]) -> None:
        """Append lines and sync them. If this raises OSError, none of them is in the file."""
        content = ("\n".join(lines) + "\n").encode()
        with self._lock:
            # A full file is closed before, not after: once lines are synced, nothing may raise.
            if self._size >= self._most:
                self.rotate()
            if self._file is None:
                self._path = self.folder / f"live-{time.time_ns():020d}.jsonl{_PART}"
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                _sync_folder(self.folder)
            try:
                written = 0
                while written < len(content):
                    written += os.write(self._file, content[written:])
                os.fdatasync(self._file)
            except OSError:
                os.ftruncate(self._file, self._size)
                raise
            self._size += len(content)

    def rotate(self) -> None:
        """Close the file, so that the daily chain reads it."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file, self._size = None, 0
                self._close(self._path)

    def prune(self, before: int) -> None:
        """Delete closed files whose events are all older than `before` (microseconds)."""
        # Files, and the events in them, are in order of time.
        for path in sorted(self.folder.glob("live-*.jsonl")):
            last = json.loads(path.read_bytes().rstrip().rpartition(b"\n")[2])
            if microseconds(datetime.fromisoformat(last.get("known_at", last["timestamp"]))) >= before:
                return
            path.unlink()

    def _close(self, part: Path) -> None:
        name = part.name.removesuffix(_PART)
        if not part.stat().st_size:
            part.unlink()
            return
        if self.landing is not None and not any(self.landing.rglob(name)):
            draft = self.landing / f"{name}{_PART}"
            shutil.copyfile(part, draft)
            draft.rename(self.landing / name)
        part.rename(part.with_name(name))
        _sync_folder(self.folder)


def _cut_torn_line(path: Path) -> None:
    """Remove an incomplete last line, which was never acknowledged."""
    with path.open("r+b") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _BLOCK)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            file.truncate(end)
            os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
