"""Files, folders and globs of a log → lines of text. Broken gz tails, bytes that are no text and endless lines are
rejects.
"""

import glob
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import polars as pl

from features.errors import SourceError
from features.sources.decoding import BrokenGzip, read_pieces
from features.sources.raw import RAW_LENGTH, SCHEMAS

_BLOCK = 1 << 24
"""Bytes that are split into lines at a time: what a reader needs beside its result grows with this."""
MAX_LINE = 1 << 22
"""Bytes of the longest line that is read; a longer one is a reject, `line_too_long`."""
_SOMETHING = r"[^\s\x1c-\x1f]"
_ROWS = pl.Schema({"source": pl.String, "line": pl.Int64, "raw": pl.String})


@dataclass(frozen=True)
class LogFile:
    """What is parsed as one: a file of a log, or of its items; MIND's files, which belong together."""

    files: tuple[tuple[str, Path], ...]
    """Source names, as rows and rejects carry them, and where the files are."""
    items: bool = False
    """Whether it is a table of items beside the log."""
    after: int = 0
    """Bytes of a log that grew which were parsed before."""
    first: int = 1
    """Number of the line behind them."""

    @property
    def source(self) -> str:
        """Name of the first file."""
        return self.files[0][0]

    @property
    def path(self) -> Path:
        """Where the first file is."""
        return self.files[0][1]


@dataclass(frozen=True)
class Block:
    """Some megabytes of a file, without the last line's end."""

    source: str
    first: int
    """Number of the first line, from 1."""
    content: bytes
    problem: str | None = None
    """Why the content, a piece of one line, is a reject: `truncated_gzip` or `line_too_long`."""


@dataclass(frozen=True)
class Lines:
    """`rows`: `source`, `line` (from 1), `raw`, blank lines left out; `rejects`: lines that are no text."""

    rows: pl.DataFrame
    rejects: pl.DataFrame


def resolve(source_path: str | Path, folders: Iterable[Path]) -> list[Path]:
    """The path under the first folder that has it; the files that match, sorted, where it is a glob (`logs/*.csv`).

    Raises SourceError that lists where it was looked for.
    """
    wanted = Path(source_path).expanduser()
    looked = []
    for folder in folders:
        looked.append(folder / wanted)
        if looked[-1].exists():
            return [looked[-1]]
        if glob.has_magic(str(wanted)):
            found = sorted(glob.glob(str(wanted), root_dir=folder, recursive=True))
            if found:
                return [folder / name for name in found]
    places = "\n".join(f"  {path}" for path in dict.fromkeys(looked)) or "  (no folder was given)"
    raise SourceError(
        f"no file or folder {str(source_path)!r}; looked at:\n{places}\n"
        "Mend source.path in the project file, or point MOMENTRANK_DATA at the folder that holds it."
    )


def find(paths: Sequence[Path], suffixes: Sequence[str]) -> list[tuple[str, Path]]:
    """Files with their source names: given files as they are, folders searched through for the suffixes.

    Hidden files and folders (`.DS_Store`, `._log.csv`) in a folder are left out.

    A source name is the file's path relative to its folder, or to what all paths share if there are several.
    Raises SourceError for a path that does not exist, a file of another type, or a folder without such files.
    """
    known = ", ".join(suffixes)
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [
                p
                for p in sorted(path.rglob("*"))
                if p.is_file() and _has_suffix(p, suffixes) and not is_hidden(p.relative_to(path))
            ]
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


def is_plain_text(path: Path) -> bool:
    """Whether a file is neither gz nor UTF-16."""
    with path.open("rb") as file:
        return not file.read(2).startswith((b"\x1f\x8b", b"\xff\xfe", b"\xfe\xff"))


def count_lines(path: Path, size: int) -> int | None:
    """Lines in the first `size` bytes of a file; None where these end inside a line."""
    lines, piece = 0, b""
    with path.open("rb") as file:
        while size and (read := file.read(min(size, _BLOCK))):
            piece = read
            lines, size = lines + piece.count(b"\n"), size - len(piece)
    return lines if piece.endswith(b"\n") else None


def is_hidden(path: PurePath) -> bool:
    """Whether a file, or a folder that it is in, begins with a dot."""
    return any(part.startswith(".") for part in path.parts)


def cut(path: Path, source: str, after: int = 0, first: int = 1) -> Iterator[Block]:
    """A gz or plain file in blocks of whole lines; pieces of lines that are rejects are blocks of their own.

    Of a plain UTF-8 file `after` bytes can be skipped: line `first` begins behind them.

    Memory is bounded by a block and a line: what follows the first MAX_LINE bytes of a line is not kept.
    """
    problem = None
    kept: list[bytes] = []
    size = open_size = 0  # bytes kept, and those of them after the last newline
    skipping = False  # inside a line that is too long
    try:
        for unread in read_pieces(path, _BLOCK, after):
            piece = unread
            if skipping:
                _, newline, piece = unread.partition(b"\n")
                skipping = not newline
            kept.append(piece)
            size += len(piece)
            end = piece.rfind(b"\n")
            open_size = len(piece) - end - 1 if end >= 0 else open_size + len(piece)
            if size < _BLOCK and open_size <= MAX_LINE:
                continue
            content, newline, rest = b"".join(kept).rpartition(b"\n")
            if newline:
                yield from _without_long_lines(Block(source, first, content))
                first += content.count(b"\n") + 1
            if open_size > MAX_LINE:
                yield Block(source, first, rest[:RAW_LENGTH], "line_too_long")
                first += 1
                skipping, rest = True, b""
            kept = [rest]
            size = open_size = len(rest)
    except BrokenGzip:
        problem = "truncated_gzip"
    content, newline, rest = b"".join(kept).rpartition(b"\n")
    if newline:
        yield from _without_long_lines(Block(source, first, content))
        first += content.count(b"\n") + 1
    if rest or problem:
        yield Block(source, first, rest, problem)


def _without_long_lines(block: Block) -> Iterator[Block]:
    """A block in pieces, its lines of more than MAX_LINE bytes apart, as rejects."""
    content, first, start, seen = block.content, block.first, 0, 0
    while len(content) - seen > MAX_LINE:
        end = content.rfind(b"\n", seen, seen + MAX_LINE + 1)
        if end >= 0:
            seen = end + 1
            continue
        if seen > start:
            yield Block(block.source, first, content[start : seen - 1])
            first += content.count(b"\n", start, seen)
        yield Block(block.source, first, content[seen : seen + RAW_LENGTH], "line_too_long")
        first += 1
        end = content.find(b"\n", seen)
        if end < 0:
            return
        start = seen = end + 1
    yield Block(block.source, first, content[start:]) if start else block


def cut_json_lines(path: Path, source: str, after: int = 0, first: int = 1) -> Iterator[Block]:
    """`cut` a file of JSON lines. Raises SourceError where the file is one JSON array."""
    for block in cut(path, source, after, first):
        if block.first == 1 and block.content.lstrip().startswith(b"["):
            raise SourceError(
                f"{path} is a JSON array, and JSON lines are expected, one object a line: "
                f"jq -c '.[]' {path.name} > {path.name.partition('.')[0]}.jsonl makes them"
            )
        yield block


def split(block: Block) -> Lines:
    """The lines of a block.

    The piece of a line before the break of a gz is one reject, `truncated_gzip`; so are a line that is not UTF-8,
    `invalid_utf8`, and one of more than MAX_LINE bytes, `line_too_long`.
    """
    if block.problem:
        return Lines(_ROWS.to_frame(), _rejects(block, block.problem, [(0, block.content)]))
    texts, bad = _read_texts(block)
    rows = texts.with_row_index("line", offset=block.first).filter(pl.col("raw").str.contains(_SOMETHING))
    rows = rows.select(pl.lit(block.source).alias("source"), pl.col("line").cast(pl.Int64), "raw")
    return Lines(rows, _rejects(block, "invalid_utf8", bad))


def quote_lines(block: Block, lines: pl.Series) -> pl.DataFrame:
    """The texts of those of the lines that a block has, `line` and `raw`."""
    here = lines.filter(lines.is_between(block.first, block.first + block.content.count(b"\n")))
    if here.is_empty():
        return _ROWS.to_frame().select("line", "raw")
    texts, _ = _read_texts(block)
    return here.to_frame("line").hstack(texts[here - block.first])


def _read_texts(block: Block) -> tuple[pl.DataFrame, list[tuple[int, bytes]]]:
    """Every line of a block in a column, `raw`; in place of those that are no text, nothing: place and bytes."""
    content = block.content
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
