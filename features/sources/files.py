"""Files and folders of a log → lines of text; broken gz tails and bytes that are no text become rejects."""

import codecs
import io
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import polars as pl

from features.errors import SourceError
from features.sources.ahead import work_ahead
from features.sources.raw import SCHEMAS

_GZIP = b"\x1f\x8b"
_GZIP_WBITS = 31
_PIECE = 1 << 16
_BLOCK = 1 << 24
"""Bytes that are split into lines at a time: what a reader needs beside its result grows with this."""
_SOMETHING = r"[^\s\x1c-\x1f]"
_ROWS = pl.Schema({"source": pl.String, "line": pl.Int64, "raw": pl.String})


class _BrokenGzip(Exception):
    """What was read before is sound; nothing after it is."""


@dataclass(frozen=True)
class Block:
    """Some megabytes of a file, without the last line's end; not `whole` where a broken gz ends within a line."""

    source: str
    first: int
    """Number of the first line, from 1."""
    content: bytes
    whole: bool = True


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
    """The lines of a gz or plain file, all at once: see `cut` and `split`."""
    blocks = list(work_ahead(split, cut(path, source)))
    return Lines(
        rows=pl.concat([_ROWS.to_frame(), *(block.rows for block in blocks)]),
        rejects=pl.concat([SCHEMAS["rejects"].to_frame(), *(block.rejects for block in blocks)]),
    )


def cut(path: Path, source: str) -> Iterator[Block]:
    """A gz or plain file in blocks of whole lines; then, of a broken gz, what stands before the break."""
    first, whole = 1, True
    kept: list[bytes] = []
    size = 0
    try:
        for piece in _read_pieces(path):
            size += len(piece)
            end = piece.rfind(b"\n")
            if size < _BLOCK or end < 0:
                kept.append(piece)
                continue
            content = b"".join([*kept, memoryview(piece)[:end]])
            yield Block(source, first, content)
            first += content.count(b"\n") + 1
            kept = [piece[end + 1 :]]
            size = len(kept[0])
    except _BrokenGzip:
        whole = False
    content, newline, rest = b"".join(kept).rpartition(b"\n")
    if newline:
        yield Block(source, first, content)
        first += content.count(b"\n") + 1
    if rest or not whole:
        yield Block(source, first, rest, whole)


def split(block: Block) -> Lines:
    """The lines of a block.

    The piece of a line before the break of a gz is one reject, `truncated_gzip`; a line that is not UTF-8 is
    rejected alone, as `invalid_utf8`.
    """
    if not block.whole:
        return Lines(_ROWS.to_frame(), _rejects(block, "truncated_gzip", [(0, block.content)]))
    texts, bad = _read_texts(block)
    rows = texts.with_row_index("line", offset=block.first).filter(pl.col("raw").str.contains(_SOMETHING))
    rows = rows.select(pl.lit(block.source).alias("source"), pl.col("line").cast(pl.Int64), "raw")
    return Lines(rows, _rejects(block, "invalid_utf8", bad))


def quote_lines(path: Path, lines: pl.Series) -> pl.DataFrame:
    """The texts of some lines, `line` and `raw`, read once more."""

    def quote(block: Block) -> pl.DataFrame:
        texts, _ = _read_texts(block)
        places = pl.col("line").is_between(block.first, block.first + texts.height, closed="left")
        here = lines.to_frame("line").filter(places)
        return here.hstack(texts[here["line"] - block.first])

    return pl.concat([_ROWS.to_frame().select("line", "raw"), *work_ahead(quote, cut(path, ""))])


def read_bytes(path: Path) -> tuple[bytes, bool]:
    """Content of a plain or gz file (told by its first bytes), and whether the gz broke before its end."""
    kept: list[bytes] = []
    try:
        for piece in _read_pieces(path):
            kept.append(piece)
    except _BrokenGzip:
        return b"".join(kept), True
    return b"".join(kept), False


def _read_pieces(path: Path) -> Iterator[bytes]:
    """Content of a file, gz unpacked. Raises _BrokenGzip where that cannot go on."""
    with path.open("rb") as file:
        head = file.read(len(_GZIP))
        file.seek(0)
        yield from _unzip(file) if head == _GZIP else iter(lambda: file.read(_BLOCK), b"")


def _unzip(file: BinaryIO) -> Iterator[bytes]:
    packed = file.read(_PIECE)
    while packed:
        member = zlib.decompressobj(wbits=_GZIP_WBITS)
        while not member.eof:
            before = member.copy()
            try:
                yield member.decompress(packed)
            except zlib.error:
                yield _salvage(before, packed)
                raise _BrokenGzip from None
            if not member.eof and not (packed := file.read(_PIECE)):
                raise _BrokenGzip
        packed = _next_member(member.unused_data, file)


def _next_member(packed: bytes, file: BinaryIO) -> bytes:
    """The beginning of the next gz in a file of several, behind the zeros that may stand between them."""
    packed = packed.lstrip(b"\0")
    while len(packed) < len(_GZIP) and (more := file.read(_PIECE)):
        packed = (packed + more).lstrip(b"\0")
    if packed and not packed.startswith(_GZIP):
        raise _BrokenGzip
    return packed


def _salvage(member: "zlib._Decompress", piece: bytes) -> bytes:
    """What can be decompressed of a piece with an error in it: byte by byte, up to the error."""
    kept: list[bytes] = []
    for byte in piece:
        try:
            kept.append(member.decompress(bytes([byte])))
        except zlib.error:
            break
    return b"".join(kept)


def _read_texts(block: Block) -> tuple[pl.DataFrame, list[tuple[int, bytes]]]:
    """Every line of a block in a column, `raw`; in place of those that are no text, nothing: place and bytes."""
    content = block.content.removeprefix(codecs.BOM_UTF8) if block.first == 1 else block.content
    try:
        return pl.read_lines(io.BytesIO(content), name="raw"), []
    except pl.exceptions.ComputeError:
        lines = content.split(b"\n")
        bad = [(place, line) for place, line in enumerate(lines) if not _is_text(line)]
        for place, _ in bad:
            lines[place] = b""
        return pl.read_lines(io.BytesIO(b"\n".join(lines)), name="raw"), bad


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _rejects(block: Block, reason: str, lines: list[tuple[int, bytes]]) -> pl.DataFrame:
    rows = [
        (block.source, block.first + place, reason, text.decode(errors="replace"), None)
        for place, text in lines
    ]
    return pl.DataFrame(rows, schema=SCHEMAS["rejects"], orient="row")


def _has_suffix(path: Path, suffixes: Sequence[str]) -> bool:
    return path.name.lower().endswith(tuple(suffixes))
