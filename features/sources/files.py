"""Files and folders of a log → lines of text; broken gz tails and bytes that are no text become rejects."""

import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from features.errors import SourceError
from features.sources.raw import SCHEMAS

_GZIP = b"\x1f\x8b"
_GZIP_WBITS = 31
_PIECE = 1 << 16


@dataclass(frozen=True)
class Lines:
    """`rows`: `source`, `line` (from 1), `raw`, blank lines left out; `rejects`: lines that are no text."""

    rows: pl.DataFrame
    rejects: pl.DataFrame


def resolve(source_path: str | Path, folders: Iterable[Path]) -> list[Path]:
    """The first folder under which the path exists, as a list of that one path.

    Raises SourceError that lists where it was looked for.
    """
    looked = [folder / Path(source_path).expanduser() for folder in folders]
    for path in looked:
        if path.exists():
            return [path]
    places = "\n".join(f"  {path}" for path in dict.fromkeys(looked)) or "  (no folder was given)"
    raise SourceError(
        f"no file or folder {str(source_path)!r}; looked at:\n{places}\n"
        "Mend source.path in the project file, or point MOMENTRANK_DATA at the folder that holds it."
    )


def find(paths: Sequence[Path], suffixes: Sequence[str]) -> list[tuple[str, Path]]:
    """Files with their source names: given files as they are, folders searched through for the suffixes.

    A source name is the file's path relative to its folder, or to what all paths share if there are several.
    Raises SourceError for a path that does not exist, a file of another type, or a folder without such files.
    """
    known = ", ".join(suffixes)
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [p for p in sorted(path.rglob("*")) if p.is_file() and _has_suffix(p, suffixes)]
            if not inside:
                raise SourceError(f"folder {path} holds no log: expected files that end in {known}")
            found += inside
        elif not path.exists():
            resolve(path, [Path()])
        elif path.suffix and not _has_suffix(path, suffixes):
            raise SourceError(f"{path} is of an unknown type: expected a file that ends in {known}")
        else:
            found.append(path)
    roots = [path if path.is_dir() else path.parent for path in paths]
    root = os.path.commonpath([root.resolve() for root in roots])
    return [(os.path.relpath(path.resolve(), root), path) for path in dict.fromkeys(found)]


def read_lines(path: Path, source: str) -> Lines:
    """Text lines of a gz or plain file.

    A broken gz keeps every whole line before the break; what comes after is one reject, `truncated_gzip`.
    A line that is not UTF-8 is rejected alone, as `invalid_utf8`.
    """
    content, broken = read_bytes(path)
    numbers, texts, bad = _decode(content)
    rejects: list[tuple[str, int, str, str]] = [(source, line, "invalid_utf8", text) for line, text in bad]
    if broken:
        tail_line = content.count(b"\n") + 1
        tail = content.rpartition(b"\n")[2].decode(errors="replace")
        if numbers and numbers[-1] == tail_line:
            numbers.pop()
            texts.pop()
        rejects = [row for row in rejects if row[1] != tail_line]
        rejects.append((source, tail_line, "truncated_gzip", tail))
    rows = pl.DataFrame({"line": numbers, "raw": texts}, schema={"line": pl.Int64, "raw": pl.String})
    schema = SCHEMAS["rejects"]
    return Lines(
        rows=rows.select(pl.lit(source).alias("source"), "line", "raw"),
        rejects=pl.DataFrame([(*row, None) for row in rejects], schema=schema, orient="row"),
    )


def read_bytes(path: Path) -> tuple[bytes, bool]:
    """Content of a plain or gz file (told by its first bytes), and whether the gz broke before its end."""
    content = path.read_bytes()
    if not content.startswith(_GZIP):
        return content, False
    pieces: list[bytes] = []
    while content:
        member = zlib.decompressobj(wbits=_GZIP_WBITS)
        for start in range(0, len(content), _PIECE):
            before = member.copy()
            try:
                pieces.append(member.decompress(content[start : start + _PIECE]))
            except zlib.error:
                pieces.append(_salvage(before, content[start : start + _PIECE]))
                return b"".join(pieces), True
            if member.eof:
                break
        if not member.eof:
            return b"".join(pieces), True
        content = (member.unused_data + content[start + _PIECE :]).lstrip(b"\0")
        if content and not content.startswith(_GZIP):
            return b"".join(pieces), True
    return b"".join(pieces), False


def _salvage(member: "zlib._Decompress", piece: bytes) -> bytes:
    """What can be decompressed of a piece with an error in it: byte by byte, up to the error."""
    kept: list[bytes] = []
    for byte in piece:
        try:
            kept.append(member.decompress(bytes([byte])))
        except zlib.error:
            break
    return b"".join(kept)


def _decode(content: bytes) -> tuple[list[int], list[str], list[tuple[int, str]]]:
    """Line numbers and texts of the lines that hold something, and the lines that are not UTF-8."""
    content = content.removeprefix(b"\xef\xbb\xbf")
    numbers: list[int] = []
    texts: list[str] = []
    bad: list[tuple[int, str]] = []
    try:
        lines: list[str | bytes] = list(content.decode().split("\n"))
    except UnicodeDecodeError:
        lines = list(content.split(b"\n"))
    for number, line in enumerate(lines, start=1):
        try:
            text = line if isinstance(line, str) else line.decode()
        except UnicodeDecodeError:
            bad.append((number, line.decode(errors="replace") if isinstance(line, bytes) else line))
            continue
        if text and not text.isspace():
            numbers.append(number)
            texts.append(text.rstrip("\r"))
    return numbers, texts, bad


def _has_suffix(path: Path, suffixes: Sequence[str]) -> bool:
    return path.name.lower().endswith(tuple(suffixes))
