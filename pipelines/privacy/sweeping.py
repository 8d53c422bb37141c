"""Names taken out of files that were never meant to hold them: logs, run records, cached examples.

The lake is not swept: its rows are deleted whole (`pipelines/privacy/forgetting.py`). What is left are texts that may
quote an id in passing, an error message in a run's events for example. There the id alone is replaced.
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

BLANK = "(forgotten)"
_SHORTEST = 6
_SHORTEST_NUMBER = 10
_SQLITE = b"SQLite format 3\0"
_COMPANIONS = ("-wal", "-shm", "-journal")
_INSIDE = r"[A-Za-z0-9_-]"


@dataclass(frozen=True)
class Swept:
    """Files in which names were found: those mended, and those that nothing could be done about."""

    mended: tuple[Path, ...]
    left: tuple[Path, ...]


def distinctive(name: str) -> bool:
    """Whether a name found in a text is that name: `7` or `2026` may be anything."""
    return len(name) >= (_SHORTEST_NUMBER if name.isdigit() else _SHORTEST)


def quoting(names: Iterable[str]) -> re.Pattern[str]:
    """Matches each distinctive name as a word of its own, in all the ways that JSON, HTML and addresses write it."""
    spelt = {spelling for name in names if distinctive(name) for spelling in spellings(name)}
    longest_first = sorted(spelt, key=len, reverse=True)
    return re.compile(f"(?<!{_INSIDE})(?:{'|'.join(map(re.escape, longest_first)) or '(?!)'})(?!{_INSIDE})")


def sweep(home: Path, names: Sequence[str], spare: Sequence[Path]) -> Swept:
    """Replace the names in every file under `home` but those under `spare`. Only distinctive names are looked for."""
    if not any(map(distinctive, names)):
        return Swept((), ())
    pattern = quoting(names)
    mended: list[Path] = []
    left: list[Path] = []
    for path in _files(home, spare):
        try:
            found, clean = (_clean_database if _is_database(path) else _clean_text)(path, pattern)
        except FileNotFoundError:  # a process beside this one has taken it away
            continue
        except (sqlite3.Error, OSError):
            found, clean = True, False
        if found:
            (mended if clean else left).append(path)
    return Swept(tuple(mended), tuple(left))


def spellings(name: str) -> set[str]:
    """A name as it is, and as JSON, JSON within JSON, HTML and addresses write it."""
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
    """Whether a name was in the file, and whether it is no longer."""
    packed = path.suffix == ".gz"
    if packed:
        try:
            content = gzip.decompress(path.read_bytes())
        except (OSError, EOFError, zlib.error):
            return False, True
        if not _bytes_of(pattern).search(content):
            return False, True
    elif not _holds(path, pattern):
        return False, True
    else:
        content = path.read_bytes()
    try:
        cleaned = pattern.sub(BLANK, content.decode()).encode()
    except UnicodeDecodeError:
        return True, False
    draft = path.with_name(f"{path.name}.part")
    draft.write_bytes(gzip.compress(cleaned, mtime=0) if packed else cleaned)
    draft.replace(path)
    return True, True


def _holds(path: Path, pattern: re.Pattern[str]) -> bool:
    """Whether a file holds what the pattern matches; its bytes are not read into memory."""
    with path.open("rb") as file, closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as content:
        return _bytes_of(pattern).search(content) is not None


def _bytes_of(pattern: re.Pattern[str]) -> re.Pattern[bytes]:
    return re.compile(pattern.pattern.encode())


def _clean_database(path: Path, pattern: re.Pattern[str]) -> tuple[bool, bool]:
    """Replace names in every text of an SQLite file, and write the file anew where any was in it, deleted or not."""
    with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
        connection.create_function(
            "blanked", 1, lambda text: pattern.sub(BLANK, text) if isinstance(text, str) else text
        )
        connection.create_function("named", 1, lambda text: bool(pattern.search(str(text))))
        changed = sum(_clean_table(connection, name) for name in _tables(connection))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        # Rows that were deleted lie in the file until it is written anew.
        if changed or _holds(path, pattern):
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return True, not _holds(path, pattern)
    return False, True


def _tables(connection: sqlite3.Connection) -> list[str]:
    found = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )
    return [name for (name,) in found]


def _clean_table(connection: sqlite3.Connection, table: str) -> int:
    columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
    return sum(
        connection.execute(
            f'UPDATE "{table}" SET "{name}" = blanked("{name}") WHERE typeof("{name}") = \'text\' AND named("{name}")'
        ).rowcount
        for name in columns
    )
