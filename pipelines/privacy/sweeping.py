"""Replace user ids in files that may quote them: logs, run records, cached examples.

The lake is not swept: `pipelines/privacy/forgetting.py` deletes its rows. Elsewhere, as in an error message among a
run's events, only the id is replaced.
"""

import gzip
import html
import json
import mmap
import re
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from features.atomic import replacing

BLANK = "(forgotten)"
_SHORTEST = 6
_SHORTEST_NUMBER = 10
_SQLITE = b"SQLite format 3\0"
_COMPANIONS = ("-wal", "-shm", "-journal")
_INSIDE = r"[A-Za-z0-9_-]"


@dataclass(frozen=True)
class SweepResult:
    """Files that contained an id: `mended` are clean now, `left` could not be rewritten."""

    mended: tuple[Path, ...]
    left: tuple[Path, ...]


def distinctive(name: str) -> bool:
    """Whether an id is long enough to search for in text: `7` or `2026` may mean anything."""
    return len(name) >= (_SHORTEST_NUMBER if name.isdigit() else _SHORTEST)


def id_pattern(names: Iterable[str]) -> re.Pattern[str]:
    """A pattern for each distinctive id as a whole word, in any of its `spellings`."""
    spelt = {spelling for name in names if distinctive(name) for spelling in spellings(name)}
    longest_first = sorted(spelt, key=len, reverse=True)
    return re.compile(f"(?<!{_INSIDE})(?:{'|'.join(map(re.escape, longest_first)) or '(?!)'})(?!{_INSIDE})")


def sweep(home: Path, names: Sequence[str], spare: Sequence[Path]) -> SweepResult:
    """Replace distinctive ids in every file under `home`, except under `spare`."""
    if not any(map(distinctive, names)):
        return SweepResult((), ())
    pattern = id_pattern(names)
    mended: list[Path] = []
    left: list[Path] = []
    for path in _files(home, spare):
        try:
            present, clean = (_clean_database if _is_database(path) else _clean_text)(path, pattern)
        except FileNotFoundError:  # another process removed it
            continue
        except (sqlite3.Error, OSError):
            present, clean = True, False
        if present:
            (mended if clean else left).append(path)
    return SweepResult(tuple(mended), tuple(left))


def spellings(name: str) -> set[str]:
    """An id as it is, and as escaped in JSON, JSON within JSON, HTML and URLs."""
    once = json.dumps(name)[1:-1]
    return {name, once, json.dumps(once)[1:-1], html.escape(name), quote(name, safe="")}


def _files(home: Path, spare: Sequence[Path]) -> Iterator[Path]:
    for path in sorted(home.rglob("*")):
        if any(path.is_relative_to(folder) for folder in spare) or path.is_symlink():
            continue
        if path.is_file() and path.stat().st_size and not path.name.endswith(_COMPANIONS):
            yield path


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def _clean_text(path: Path, pattern: re.Pattern[str]) -> tuple[bool, bool]:
    """Whether an id was in the file, and whether the file is clean now."""
    packed = path.suffix == ".gz"
    if packed:
        try:
            content = gzip.decompress(path.read_bytes())
        except (OSError, EOFError, zlib.error):
            return False, True
        if not _bytes_of(pattern).search(content):
            return False, True
    elif not _contains(path, pattern):
        return False, True
    else:
        content = path.read_bytes()
    try:
        cleaned = pattern.sub(BLANK, content.decode()).encode()
    except UnicodeDecodeError:
        return True, False
    with replacing(path) as draft:
        draft.write_bytes(gzip.compress(cleaned, mtime=0) if packed else cleaned)
    return True, True


def _contains(path: Path, pattern: re.Pattern[str]) -> bool:
    """Whether the pattern matches in a file, without reading it into memory."""
    with path.open("rb") as file, closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as content:
        return _bytes_of(pattern).search(content) is not None


def _bytes_of(pattern: re.Pattern[str]) -> re.Pattern[bytes]:
    return re.compile(pattern.pattern.encode())


def _clean_database(path: Path, pattern: re.Pattern[str]) -> tuple[bool, bool]:
    """Replace ids in every text of an SQLite file; vacuum it if it contained any, even in deleted rows."""
    with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
        connection.create_function(
            "blanked", 1, lambda text: pattern.sub(BLANK, text) if isinstance(text, str) else text
        )
        connection.create_function("named", 1, lambda text: bool(pattern.search(str(text))))
        changed = sum(_clean_table(connection, name) for name in _tables(connection))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        # Deleted rows stay in the file until it is vacuumed.
        if changed or _contains(path, pattern):
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return True, not _contains(path, pattern)
    return False, True


def _tables(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )
    return [name for (name,) in rows]


def _clean_table(connection: sqlite3.Connection, table: str) -> int:
    columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
    return sum(
        connection.execute(
            f'UPDATE "{table}" SET "{name}" = blanked("{name}") WHERE typeof("{name}") = \'text\' AND named("{name}")'
        ).rowcount
        for name in columns
    )
