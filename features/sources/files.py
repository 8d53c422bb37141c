"""Files, folders and globs of a log → lines of text.

Truncated gz files, lines that are not UTF-8 and lines that are too long yield rejects.
"""

import glob
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import polars as pl

from features.config.sections import ReaderConfig
from features.errors import SourceError
from features.sources.decoding import BrokenGzip, read_pieces
from features.sources.raw import RAW_LENGTH, SCHEMAS, Hide, RawEvents
from features.sources.sampling import Past

_BLOCK = 1 << 24
"""Bytes that are split into lines at a time; a reader's working memory grows with this."""
MAX_LINE = 1 << 22
"""Longest line in bytes; a longer one is rejected as `line_too_long`."""
_SOMETHING = r"[^\s\x1c-\x1f]"
_ROWS = pl.Schema({"source": pl.String, "line": pl.Int64, "raw": pl.String})


@dataclass(frozen=True)
class LogFile:
    """Files that are parsed together: one file of a log or of its items, or all files of MIND."""

    files: tuple[tuple[str, Path], ...]
    """Source names, as in rows and rejects, and paths."""
    items: bool = False
    """Whether this is an items table."""
    after: int = 0
    """Bytes to skip: of a log that has grown, those parsed before."""
    first: int = 1
    """Number of the first line after them."""

    @property
    def source(self) -> str:
        """Name of the first file."""
        return self.files[0][0]

    @property
    def path(self) -> Path:
        """Path of the first file."""
        return self.files[0][1]


@dataclass(frozen=True)
class Reader:
    """A source format: which files to parse, in order, and how one becomes rows, in chunks.

    `chunks` calls the function `Hide` on user ids before it builds other ids from them, and may sample from `Past`.
    """

    files: Callable[[ReaderConfig, Sequence[Path]], list[LogFile]]
    chunks: Callable[[ReaderConfig, LogFile, Hide, Past | None], Iterator[RawEvents]]


def with_suffix(*suffixes: str) -> Callable[[ReaderConfig, Sequence[Path]], list[LogFile]]:
    """`Reader.files` of a format whose files are parsed one by one."""
    return lambda _, paths: [LogFile((file,)) for file in find(paths, suffixes)]


@dataclass(frozen=True)
class Block:
    """Some megabytes of a file: whole lines, without the last newline."""

    source: str
    first: int
    """Number of the first line, from 1."""
    content: bytes
    problem: str | None = None
    """Reject reason if the content is part of one invalid line: `truncated_gzip` or `line_too_long`."""


@dataclass(frozen=True)
class Lines:
    """`rows`: `source`, `line` (from 1), `raw`, without blank lines; `rejects`: invalid lines."""

    rows: pl.DataFrame
    rejects: pl.DataFrame


def resolve(source_path: str | Path, folders: Iterable[Path]) -> list[Path]:
    """Find a path, or the sorted matches of a glob (`logs/*.csv`), in the first folder that has it.

    Raises SourceError with the paths tried.
    """
    relative = Path(source_path).expanduser()
    tried = []
    for folder in folders:
        tried.append(folder / relative)
        if tried[-1].exists():
            return [tried[-1]]
        if glob.has_magic(str(relative)):
            matches = sorted(glob.glob(str(relative), root_dir=folder, recursive=True))
            if matches:
                return [folder / name for name in matches]
    paths = "\n".join(f"  {path}" for path in dict.fromkeys(tried)) or "  (no folder was given)"
    raise SourceError(
        f"no file or folder {str(source_path)!r}; tried:\n{paths}\n"
        "Correct source.path in the project file, or set MOMENTRANK_DATA to the folder that contains it."
    )


def find(paths: Sequence[Path], suffixes: Sequence[str]) -> list[tuple[str, Path]]:
    """List files with their source names: the given files, and those in the given folders with one of the suffixes.

    Hidden files and folders (`.DS_Store`, `._log.csv`) in a folder are left out. A source name is relative to the
    file's folder, or to the common folder of several paths. Raises SourceError for a path that does not exist, a
    file of another type, or a folder without such files.
    """
    expected = ", ".join(suffixes)
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [
                p
                for p in sorted(path.rglob("*"))
                if p.is_file() and _has_suffix(p, suffixes) and not is_hidden(p.relative_to(path))
            ]
            if not inside:
                raise SourceError(f"folder {path} holds no log: expected files that end in {expected}")
            files += inside
        elif not path.exists():
            resolve(path, [Path()])
        elif path.suffix and not _has_suffix(path, suffixes):
            raise SourceError(f"{path} is of an unknown type: expected a file that ends in {expected}")
        else:
            files.append(path)
    roots = [path if path.is_dir() else path.parent for path in paths]
    root = os.path.commonpath([root.resolve() for root in roots])
    return [(os.path.relpath(path.resolve(), root), path) for path in dict.fromkeys(files)]


def is_plain_text(path: Path) -> bool:
    """Whether a file is neither gz nor UTF-16."""
    with path.open("rb") as file:
        return not file.read(2).startswith((b"\x1f\x8b", b"\xff\xfe", b"\xfe\xff"))


def count_lines(path: Path, size: int) -> int | None:
    """Count lines in the first `size` bytes of a file; None if these end inside a line."""
    lines, piece = 0, b""
    with path.open("rb") as file:
        while size and (read := file.read(min(size, _BLOCK))):
            piece = read
            lines, size = lines + piece.count(b"\n"), size - len(piece)
    return lines if piece.endswith(b"\n") else None


def is_hidden(path: PurePath) -> bool:
    """Whether the name of a file or of one of its folders begins with a dot."""
    return any(part.startswith(".") for part in path.parts)


def cut(path: Path, source: str, after: int = 0, first: int = 1) -> Iterator[Block]:
    """Cut a plain or gz file into blocks of whole lines; each invalid line is a block of its own.

    `after` bytes of a plain UTF-8 file can be skipped; line `first` begins after them. Memory is bounded by a block
    and a line: of a line, only the first MAX_LINE bytes are kept.
    """
    problem = None
    buffered: list[bytes] = []
    size = open_size = 0  # bytes buffered, and those after the last newline
    skipping = False  # inside a line that is too long
    try:
        for unread in read_pieces(path, _BLOCK, after):
            piece = unread
            if skipping:
                _, newline, piece = unread.partition(b"\n")
                skipping = not newline
            buffered.append(piece)
            size += len(piece)
            end = piece.rfind(b"\n")
            open_size = len(piece) - end - 1 if end >= 0 else open_size + len(piece)
            if size < _BLOCK and open_size <= MAX_LINE:
                continue
            content, newline, remainder = b"".join(buffered).rpartition(b"\n")
            if newline:
                yield from _without_long_lines(Block(source, first, content))
                first += content.count(b"\n") + 1
            if open_size > MAX_LINE:
                yield Block(source, first, remainder[:RAW_LENGTH], "line_too_long")
                first += 1
                skipping, remainder = True, b""
            buffered = [remainder]
            size = open_size = len(remainder)
    except BrokenGzip:
        problem = "truncated_gzip"
    content, newline, remainder = b"".join(buffered).rpartition(b"\n")
    if newline:
        yield from _without_long_lines(Block(source, first, content))
        first += content.count(b"\n") + 1
    if remainder or problem:
        yield Block(source, first, remainder, problem)


def _without_long_lines(block: Block) -> Iterator[Block]:
    """Split a block so that each line of more than MAX_LINE bytes is an invalid block of its own."""
    content, first, start, position = block.content, block.first, 0, 0
    while len(content) - position > MAX_LINE:
        end = content.rfind(b"\n", position, position + MAX_LINE + 1)
        if end >= 0:
            position = end + 1
            continue
        if position > start:
            yield Block(block.source, first, content[start : position - 1])
            first += content.count(b"\n", start, position)
        yield Block(block.source, first, content[position : position + RAW_LENGTH], "line_too_long")
        first += 1
        end = content.find(b"\n", position)
        if end < 0:
            return
        start = position = end + 1
    yield Block(block.source, first, content[start:]) if start else block


def cut_json_lines(path: Path, source: str, after: int = 0, first: int = 1) -> Iterator[Block]:
    """`cut` a file of JSON lines. Raises SourceError if the file is one JSON array."""
    for block in cut(path, source, after, first):
        if block.first == 1 and block.content.lstrip().startswith(b"["):
            raise SourceError(
                f"{path} is a JSON array, but JSON lines are expected, one object a line. Convert it: "
                f"jq -c '.[]' {path.name} > {path.name.partition('.')[0]}.jsonl"
            )
        yield block


def split(block: Block) -> Lines:
    """Split a block into lines.

    Rejects are the last, incomplete line of a broken gz (`truncated_gzip`), lines that are not UTF-8 (`invalid_utf8`)
    and lines of more than MAX_LINE bytes (`line_too_long`).
    """
    if block.problem:
        return Lines(_ROWS.to_frame(), _rejects(block, block.problem, [(0, block.content)]))
    texts, bad = _read_texts(block)
    rows = texts.with_row_index("line", offset=block.first).filter(pl.col("raw").str.contains(_SOMETHING))
    rows = rows.select(pl.lit(block.source).alias("source"), pl.col("line").cast(pl.Int64), "raw")
    return Lines(rows, _rejects(block, "invalid_utf8", bad))


def quote_lines(block: Block, lines: pl.Series) -> pl.DataFrame:
    """Read again those of the numbered lines that are in a block: `line`, `raw`."""
    texts = block.content.split(b"\n")
    here = lines.filter(lines.is_between(block.first, block.first + len(texts) - 1))
    quoted = [texts[line - block.first].removesuffix(b"\r").decode(errors="replace") for line in here]
    return pl.DataFrame({"line": here, "raw": quoted}, _ROWS.to_frame().select("line", "raw").schema)


def _read_texts(block: Block) -> tuple[pl.DataFrame, list[tuple[int, bytes]]]:
    """A column `raw` of a block's lines, and the index and bytes of lines that are not UTF-8, which are empty in it."""
    content = block.content
    try:
        return pl.read_lines(io.BytesIO(content), name="raw"), []
    except pl.exceptions.ComputeError:
        lines = content.split(b"\n")
        bad = [(index, line) for index, line in enumerate(lines) if not _is_text(line)]
        for index, _ in bad:
            lines[index] = b""
        return pl.read_lines(io.BytesIO(b"\n".join(lines)), name="raw"), bad


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _rejects(block: Block, reason: str, lines: list[tuple[int, bytes]]) -> pl.DataFrame:
    rows = [
        (block.source, block.first + index, reason, text.decode(errors="replace"), None)
        for index, text in lines
    ]
    return pl.DataFrame(rows, schema=SCHEMAS["rejects"], orient="row")


def _has_suffix(path: Path, suffixes: Sequence[str]) -> bool:
    return path.name.lower().endswith(tuple(suffixes))
