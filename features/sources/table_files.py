"""CSV, Parquet and JSON-lines files → frames of cells with source and line, and rejects."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl

from features.errors import SourceError
from features.sources.cells import texts_of_bytes
from features.sources.files import MAX_LINE, LogFile, cut, cut_json_lines, quote_lines, split
from features.sources.item_rows import text_of
from features.sources.raw import SCHEMAS, Quote

SUFFIXES = (
    ".csv",
    ".tsv",
    ".csv.gz",
    ".tsv.gz",
    ".jsonl",
    ".jsonl.gz",
    ".ndjson",
    ".ndjson.gz",
    ".parquet",
    ".pq",
)
_JSONL = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_PARQUET = (".parquet", ".pq")
_SEPARATORS = ",\t;|"
_LINE, _RAW = "__line", "__raw"
"""Names that do not clash with a log's columns."""
_Pick = Callable[[pl.LazyFrame, Iterable[str]], pl.DataFrame]
_Broken = tuple[str, int, str, str, None]
"""Source, line, reason, text, time."""


@dataclass(frozen=True)
class Piece:
    """Some rows of a file, and rejects."""

    frame: pl.DataFrame
    """`source, line, raw` and the requested columns; without columns if there are no rows."""
    rejects: pl.DataFrame
    quotes: tuple[Quote, ...] = ()
    """For rows whose `raw` is null."""


def read_pieces(
    file: LogFile, columns: dict[str, str], optional: dict[str, str], rows: int, *, quoted: bool = True
) -> Iterator[Piece]:
    """Read columns of a file, some megabytes at a time, or `rows` rows of Parquet.

    `columns` maps names in the result to names in the file; `optional` ones may be missing. Without `quoted`, `raw`
    of Parquet and JSON lines is null. Cells of CSV and JSON lines are text (JSON lists and objects stay JSON);
    Parquet cells keep their types, except that Binary becomes text. A line number counts rows and headers, from 1.
    Raises SourceError for an unreadable file or a missing column.
    """
    pick = partial(_pick, file=file, columns=columns, optional=optional)
    name = file.path.name.lower()
    if name.endswith(_PARQUET):
        return _read_parquet(file, pick, rows, quoted)
    if name.endswith(_JSONL):
        return _read_json_lines(file, pick, {*columns.values(), *optional.values()}, quoted)
    return _read_csv(file, pick)


def _read_parquet(file: LogFile, pick: _Pick, size: int, quoted: bool) -> Iterator[Piece]:
    path = file.path
    try:
        height = pl.scan_parquet(path, glob=False, hive_partitioning=False).select(pl.len()).collect().item()
        for start in range(0, height, size):
            rows = _scan_parquet(path, start, size, quoted)
            frame = pick(rows, rows.collect_schema().names())
            quotes = [(file.source, partial(_quote_rows, path, start, size))]
            yield Piece(frame, SCHEMAS["rejects"].to_frame(), tuple(quotes))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SourceError(f"{path} is not a readable Parquet file: {error}") from None


def _scan_parquet(path: Path, start: int, size: int, quoted: bool) -> pl.LazyFrame:
    rows = pl.scan_parquet(path, glob=False, hive_partitioning=False).slice(start, size)
    schema = rows.collect_schema()
    texts = [
        pl.col(name).map_batches(texts_of_bytes, pl.String) for name in schema if schema[name] == pl.Binary
    ]
    # Polars panics when it encodes bytes as JSON.
    encodable = [
        name for name, dtype in schema.items() if not dtype.is_nested() or "Binary" not in repr(dtype)
    ]
    raw = pl.struct(encodable).struct.json_encode() if quoted and encodable else pl.lit(None, pl.String)
    return rows.with_columns(texts).with_columns(raw.alias(_RAW)).with_row_index(_LINE, offset=start + 1)


def _quote_rows(path: Path, start: int, size: int, lines: pl.Series) -> pl.DataFrame:
    """Read numbered rows of a Parquet file again, as JSON."""
    rows = _scan_parquet(path, start, size, quoted=True).filter(pl.col(_LINE).is_in(lines.implode()))
    return rows.select(pl.col(_LINE).cast(pl.Int64).alias("line"), pl.col(_RAW).alias("raw")).collect()


def _pick(
    rows: pl.LazyFrame, names: Iterable[str], file: LogFile, columns: dict[str, str], optional: dict[str, str]
) -> pl.DataFrame:
    present = [name for name in names if name not in (_LINE, _RAW)]
    if not present:
        return pl.DataFrame()
    missing = [column for column in columns.values() if column not in present]
    if missing:
        raise SourceError(
            f"{file.path} has no column {missing[0]!r}, only {', '.join(present)}: "
            'name the columns in [source.tables] and [items] (title = "" where items have no title)'
        )
    available = columns | {key: name for key, name in optional.items() if name in present}
    picked = [pl.col(column).alias(key) for key, column in available.items()]
    origin = [pl.lit(file.source).alias("source"), pl.col(_LINE).cast(pl.Int64).alias("line")]
    return rows.select(*origin, pl.col(_RAW).alias("raw"), *picked).collect()


def _read_json_lines(file: LogFile, pick: _Pick, keys: set[str], quoted: bool) -> Iterator[Piece]:
    """Read keys of a file's objects; other lines are rejects."""
    names: dict[str, None] = {}
    columns = [_LINE, _RAW, *keys]
    schema = {name: pl.Int64 if name == _LINE else pl.String for name in columns}
    for block in cut_json_lines(file.path, file.source, file.after, file.first):
        lines = split(block)
        rows: list[tuple[Any, ...]] = []
        broken: list[_Broken] = []
        for number, raw in lines.rows.select("line", "raw").iter_rows():
            row = _load(raw)
            if row is None:
                broken.append((file.source, number, "broken_json", raw, None))
                continue
            names |= dict.fromkeys(row)
            rows.append((number, raw if quoted else None, *(_cell(row.get(name)) for name in keys)))
        frame = pick(pl.LazyFrame(rows, schema=schema, orient="row"), [*names] if rows else [])
        rejects = pl.concat([lines.rejects, _rejects(broken)])
        yield Piece(frame, rejects, ((file.source, partial(quote_lines, block)),))


def _load(raw: str) -> dict[str, Any] | None:
    try:
        row = json.loads(raw)
        if "\\u" in raw:
            json.dumps(row, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _cell(value: Any) -> str | None:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else text_of(value)


def _read_csv(file: LogFile, pick: _Pick) -> Iterator[Piece]:
    """Read a CSV whose first line names the columns; the separator is the sign that is most frequent in that line."""
    header, separator, number = b"", ",", 2
    for piece, broken in _cut_csv(file):
        text = header + b"\n" + piece if header else piece
        if not header:
            header = _first_row(piece)
            separator = max(_SEPARATORS, key=header.decode(errors="replace").count)
        try:
            # Polars would read the blank line that replaces a line that is too long as a row.
            if broken:
                raise pl.exceptions.ComputeError
            frame = pl.read_csv(text, separator=separator, infer_schema=False)
            frame = frame.with_row_index(_LINE, offset=number)
            number += frame.height
        except pl.exceptions.NoDataError:
            frame = pl.DataFrame()
        except pl.exceptions.PolarsError:
            frame, number = _read_rows(text, separator, file.source, broken, number)
        if frame.height:
            raw = pl.concat_str(pl.all().exclude(_LINE).fill_null(""), separator=separator).alias(_RAW)
            frame = pick(frame.lazy().with_columns(raw), frame.columns)
        yield Piece(frame if frame.height else pl.DataFrame(), _rejects(broken))


def _cut_csv(file: LogFile) -> Iterator[tuple[bytes, list[_Broken]]]:
    """Cut a CSV outside quoted cells; a blank line replaces each line that is too long."""
    pieces: list[bytes] = []
    broken: list[_Broken] = []
    quotes = 0
    for block in cut(file.path, file.source):
        if block.problem:
            broken.append(
                (block.source, block.first, block.problem, block.content.decode(errors="replace"), None)
            )
        pieces.append(b"" if block.problem else block.content)
        quotes += pieces[-1].count(b'"')
        if quotes % 2 == 0:
            yield b"\n".join(pieces), broken
            pieces, broken = [], []
    if pieces:
        yield b"\n".join(pieces), broken


def _first_row(content: bytes) -> bytes:
    """The first row, which may have quoted line breaks."""
    end = content.find(b"\n")
    while end >= 0 and content.count(b'"', 0, end) % 2:
        end = content.find(b"\n", end + 1)
    return content if end < 0 else content[:end]


def _read_rows(
    content: bytes, separator: str, source: str, broken: list[_Broken], first: int
) -> tuple[pl.DataFrame, int]:
    """Read text that polars refused row by row: only rows with too many cells or broken text are rejected.

    `first` is the number of the first row after the header. Returns the number after the last row, too.
    """
    csv.field_size_limit(MAX_LINE)
    reader = csv.reader(io.StringIO(content.decode(errors="replace"), newline=""), delimiter=separator)
    header = next(reader)
    rows: list[list[Any]] = []
    for number in count(first):
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            broken.append((source, number, f"broken_row:{error}", "", None))
            continue
        raw = separator.join(cells)
        if "�" in raw:
            broken.append((source, number, "invalid_utf8", raw, None))
        elif len(cells) > len(header):
            broken.append((source, number, f"broken_row:{len(cells)} columns, not {len(header)}", raw, None))
        elif cells:
            padding = [None] * (len(header) - len(cells))
            rows.append([number, *(cell or None for cell in cells), *padding])
    schema = {_LINE: pl.Int64, **dict.fromkeys(header, pl.String)}
    return pl.DataFrame(rows, schema=schema, orient="row"), number


def _rejects(broken: list[_Broken]) -> pl.DataFrame:
    return pl.DataFrame(broken, schema=SCHEMAS["rejects"], orient="row")
