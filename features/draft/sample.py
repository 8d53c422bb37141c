"""Sample log files: the first and last rows of a few files of each kind."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from features.errors import SourceError
from features.sources.files import cut, find
from features.sources.item_rows import text_of

ROWS = 50_000
"""Rows read per file."""
HEAD = 1 << 24
"""Bytes read from the start of a file."""
TAIL = 1 << 18
"""Bytes read from the end of a longer plain file."""
TAIL_ROWS = 1000
"""Rows used from the end of a longer file."""
ITEMS_FACTOR = 10
"""Factor by which samples of items are larger, so that they contain the log's ids."""
FILES = 6
"""Files read per kind: the first, the last, and some between."""

_PARQUET = (".parquet", ".pq")
_JSON = (".jsonl", ".ndjson", ".json")
_TEXT = (".csv", ".tsv")
SUFFIXES = (*_PARQUET, *(name + gz for name in (*_JSON, *_TEXT) for gz in ("", ".gz")))
_SEPARATORS = ",\t;|"


@dataclass(frozen=True)
class Sample:
    """Rows of files with the same columns; cells are text, or typed as in Parquet."""

    files: tuple[Path, ...]
    """All files of this kind, read or not."""
    frame: pl.DataFrame
    complete: bool
    """Whether the frame has all rows of all files."""
    to_end: bool
    """Whether the frame has the last rows of the last file."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def parquet(self) -> bool:
        """Whether these are Parquet files."""
        return self.files[0].name.lower().endswith(_PARQUET)


def find_files(paths: Sequence[Path]) -> list[Path]:
    """List the log files among the paths and in folders. Raises SourceError if there are none."""
    return [path for _, path in find(paths, SUFFIXES) if not path.name.startswith((".", "_"))]


def read_samples(paths: Sequence[Path], times: int = 1) -> list[Sample]:
    """Read one sample for each distinct set of columns, the largest files first.

    `times` multiplies the rows and bytes that are read. Raises SourceError for a file that is neither text nor
    Parquet.
    """
    kinds: dict[tuple[str, ...], list[Path]] = {}
    for path in paths:
        kinds.setdefault(tuple(_names(path)), []).append(path)
    samples = [_sample(files, times) for files in kinds.values()]
    return sorted(samples, key=lambda sample: -sample.size)


def evenly_spaced(files: Sequence[Path]) -> list[Path]:
    """Choose the first, the last, and evenly spaced files between."""
    if len(files) <= FILES:
        return list(files)
    return [files[round(n * (len(files) - 1) / (FILES - 1))] for n in range(FILES)]


def read_head(path: Path, limit: int = HEAD) -> tuple[bytes, bool]:
    """Read about `limit` bytes of whole lines from the start of a plain or gz file, and whether these are all."""
    contents: list[bytes] = []
    size = 0
    for block in cut(path, path.name):
        if contents and size + len(block.content) > limit:
            return b"\n".join(contents), False
        contents.append(block.content)
        size += len(block.content)
    return b"\n".join(contents), True


def read_tail(path: Path) -> bytes:
    """Read the last whole lines of a plain file; empty for a gz, which cannot be read from its end."""
    with path.open("rb") as file:
        if file.read(2) == b"\x1f\x8b":
            return b""
        file.seek(max(0, path.stat().st_size - TAIL))
        return file.read().partition(b"\n")[2]


def read_json_lines(content: bytes) -> Iterator[dict[str, Any]]:
    """Parse the objects of JSON lines, and ignore broken lines."""
    for line in content.splitlines():
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict):
                yield row


def _sample(files: list[Path], times: int) -> Sample:
    chosen = evenly_spaced(files)
    parts = [_read(path, times) for path in chosen]
    complete = len(chosen) == len(files) and all(complete for _, complete, _ in parts)
    try:
        frame = pl.concat([frame for frame, _, _ in parts], how="diagonal_relaxed")
    except pl.exceptions.PolarsError as error:
        names = ", ".join(str(path) for path in chosen)
        raise SourceError(f"the same columns have different types in {names}: {error}") from None
    return Sample(tuple(files), frame, complete, to_end=parts[-1][2])


def _read(path: Path, times: int) -> tuple[pl.DataFrame, bool, bool]:
    """Rows of a file, whether they are complete, and whether they include the last ones."""
    if path.name.lower().endswith(_PARQUET):
        return _read_parquet(path, times)
    content, complete = read_head(path, HEAD * times)
    is_json = _is_json(content)
    parse = _parse_json if is_json else _parse_csv
    frame = parse(content, ROWS * times)
    if complete and frame.height < ROWS * times:
        return frame, True, True
    tail = read_tail(path)
    header = b"" if is_json else content.partition(b"\n")[0] + b"\n"
    last = parse(header + tail, TAIL).tail(TAIL_ROWS) if tail else frame.clear()
    if last.is_empty() or last.columns != frame.columns:
        return frame, False, False
    # The head and the tail of a file may overlap.
    return pl.concat([frame, last]).unique(maintain_order=True), False, True


def _read_parquet(path: Path, times: int) -> tuple[pl.DataFrame, bool, bool]:
    """The first and last rows, without vectors, bytes and nested types."""
    try:
        rows = pl.scan_parquet(path)
        names = [name for name, dtype in rows.collect_schema().items() if _is_readable(dtype)]
        frame = rows.select(names).head(ROWS * times).collect()
        if frame.height < ROWS * times:
            return frame, True, True
        height = rows.select(pl.len()).collect().item()
        last = rows.select(names).slice(max(frame.height, height - TAIL_ROWS)).collect()
        return pl.concat([frame, last]), False, True
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SourceError(f"{path} is not a readable Parquet file: {error}") from None


def _is_readable(dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.List | pl.Array):
        inner = pl.List(dtype.inner).inner
        return not (inner.is_nested() or inner.is_float() or inner == pl.Binary)  # type: ignore[union-attr]
    return not (dtype.is_nested() or dtype in (pl.Binary, pl.Object) or isinstance(dtype, pl.Duration))


def _names(path: Path) -> list[str]:
    """Columns of a file; `event` alone for a log of Metarank's events."""
    if path.name.lower().endswith(_PARQUET):
        return _read_parquet(path, 1)[0].columns
    content, _ = read_head(path, 1)
    if b"\0" in content[:4096]:
        raise SourceError(
            f"{path} is neither text nor Parquet: expected CSV, TSV, JSON lines (plain or gz) or Parquet"
        )
    if not content.strip():
        return []
    if _is_json(content):
        rows = list(read_json_lines(content[: 1 << 18]))
        names = dict.fromkeys(name for row in rows for name in row)
        return ["event"] if "event" in names else list(names)
    if content.lstrip().startswith(b"["):
        raise SourceError(f"{path} is one JSON array: write one object a line, for example with jq -c '.[]'")
    return _parse_csv(content.partition(b"\n")[0] + b"\n", 1).columns


def _is_json(content: bytes) -> bool:
    return content.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")


def _parse_json(content: bytes, count: int) -> pl.DataFrame:
    rows = [
        {name: _cell(value) for name, value in row.items()}
        for _, row in zip(range(count), read_json_lines(content), strict=False)
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def _cell(value: Any) -> str | None:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else text_of(value)


def _parse_csv(content: bytes, count: int) -> pl.DataFrame:
    """Parse a CSV with a header, without a last row that was cut inside quotes."""
    text = content.removeprefix(b"\xef\xbb\xbf")
    header = text.partition(b"\n")[0].decode(errors="replace")
    separator = max(_SEPARATORS, key=header.count)
    with suppress(pl.exceptions.PolarsError):
        return _without_index(pl.read_csv(text, separator=separator, infer_schema=False, n_rows=count))
    reader = csv.reader(io.StringIO(text.decode(errors="replace"), newline=""), delimiter=separator)
    names = next(reader, [])
    rows = [row for _, row in zip(range(count), reader, strict=False) if len(row) == len(names)]
    cells = [[cell or None for cell in row] for row, _ in pairwise([*rows, []])]
    return _without_index(pl.DataFrame(cells, schema=dict.fromkeys(names, pl.String), orient="row"))


def _without_index(frame: pl.DataFrame) -> pl.DataFrame:
    """Drop unnamed columns, such as the index that pandas writes."""
    return frame.select(name for name in frame.columns if name and not name.startswith("Unnamed:"))
