"""CSV, Parquet and JSON-lines files → frames of cells with their place, and the rows that are no rows."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl

from features.errors import SourceError
from features.sources.cells import texts_of_bytes
from features.sources.files import MAX_LINE, cut, cut_json_lines, find, quote_lines, split
from features.sources.items import text_of
from features.sources.raw import SCHEMAS, Quote

_CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_JSONL = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_PARQUET = (".parquet", ".pq")
_SEPARATORS = ",\t;|"
_LINE, _RAW = "__line", "__raw"
"""Names that no log's column has."""


@dataclass(frozen=True)
class Tables:
    """What was read: a frame a file that has rows, and the rows that are none."""

    frames: list[pl.DataFrame] = field(default_factory=list)
    """`source, line, raw` and the columns asked for."""
    rejects: list[pl.DataFrame] = field(default_factory=list)
    quotes: dict[str, Quote] = field(default_factory=dict)
    """Of the sources whose `raw` is null."""


def read_tables(
    paths: Sequence[Path], columns: dict[str, str], optional: dict[str, str], *, quoted: bool = True
) -> Tables:
    """Read the columns asked for; with `quoted`, each row's `raw`, else that of Parquet and JSON lines is null.

    `columns`: what a column is called here → what it is called in the file; `optional` ones may be missing.
    Cells of CSV and JSON lines are text (a JSON list or object stays JSON), those of Parquet have their types, but
    Binary ones are text.
    A line is a row's number, headers counted. Raises SourceError for an unreadable file or a missing column.
    """
    tables = Tables()
    for source, path in find(paths, (*_CSV, *_JSONL, *_PARQUET)):
        name = path.name.lower()
        if name.endswith(_PARQUET):
            tables.quotes[source] = partial(_quote_rows, path)
            try:
                rows = _scan_parquet(path, quoted)
                frame = _pick(rows, rows.collect_schema().names(), source, path, columns, optional)
            except (pl.exceptions.PolarsError, OSError) as error:
                raise SourceError(f"{path} is not a readable Parquet file: {error}") from None
        elif name.endswith(_JSONL):
            wanted = {*columns.values(), *optional.values()}
            rows, found, broken = _read_json_lines(path, source, wanted, quoted)
            tables.quotes[source] = partial(quote_lines, path)
            tables.rejects.append(broken)
            frame = _pick(rows, found, source, path, columns, optional)
        else:
            rows, broken = _read_csv(path, source)
            tables.rejects.append(broken)
            frame = _pick(rows, rows.collect_schema().names(), source, path, columns, optional)
        if not frame.is_empty():
            tables.frames.append(frame)
    return tables


def _scan_parquet(path: Path, quoted: bool) -> pl.LazyFrame:
    rows = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    schema = rows.collect_schema()
    texts = [
        pl.col(name).map_batches(texts_of_bytes, pl.String) for name in schema if schema[name] == pl.Binary
    ]
    # JSON has no form for bytes, and polars panics at them.
    shown = [name for name, dtype in schema.items() if not dtype.is_nested() or "Binary" not in repr(dtype)]
    raw = pl.struct(shown).struct.json_encode() if quoted and shown else pl.lit(None, pl.String)
    return rows.with_columns(texts).with_columns(raw.alias(_RAW)).with_row_index(_LINE, offset=1)


def _quote_rows(path: Path, lines: pl.Series) -> pl.DataFrame:
    """Some rows of a Parquet file, as JSON."""
    wanted = pl.col(_LINE).is_in(lines.implode())
    rows = _scan_parquet(path, quoted=True).filter(wanted)
    return rows.select(pl.col(_LINE).cast(pl.Int64).alias("line"), pl.col(_RAW).alias("raw")).collect()


def _pick(
    rows: pl.LazyFrame,
    names: Iterable[str],
    source: str,
    path: Path,
    columns: dict[str, str],
    optional: dict[str, str],
) -> pl.DataFrame:
    found = [name for name in names if name not in (_LINE, _RAW)]
    if not found:
        return pl.DataFrame()
    missing = [column for column in columns.values() if column not in found]
    if missing:
        raise SourceError(
            f"{path} has no column {missing[0]!r}, only {', '.join(found)}: "
            'name its columns in [source.tables] and [items] (title = "" where items have no title)'
        )
    present = {key: name for key, name in optional.items() if name in found}
    picked = [pl.col(column).alias(key) for key, column in {**columns, **present}.items()]
    place = [pl.lit(source).alias("source"), pl.col(_LINE).cast(pl.Int64).alias("line")]
    return rows.select(*place, pl.col(_RAW).alias("raw"), *picked).collect()


def _read_json_lines(
    path: Path, source: str, wanted: set[str], quoted: bool
) -> tuple[pl.LazyFrame, list[str], pl.DataFrame]:
    """The wanted keys of a file's objects, the names of all keys, and the lines that are no object."""
    names: dict[str, None] = {}
    frames: list[pl.DataFrame] = []
    rejects: list[pl.DataFrame] = []
    columns = [_LINE, _RAW, *wanted]
    schema = {name: pl.Int64 if name == _LINE else pl.String for name in columns}
    for block in cut_json_lines(path, source):
        lines = split(block)
        rows: list[tuple[Any, ...]] = []
        broken: list[tuple[str, int, str, str, None]] = []
        for number, raw in lines.rows.select("line", "raw").iter_rows():
            row = _load(raw)
            if row is None:
                broken.append((source, number, "broken_json", raw, None))
                continue
            names |= dict.fromkeys(row)
            rows.append((number, raw if quoted else None, *(_cell(row.get(name)) for name in wanted)))
        frames.append(pl.DataFrame(rows, schema=schema, orient="row"))
        rejects += [lines.rejects, pl.DataFrame(broken, schema=SCHEMAS["rejects"], orient="row")]
    return (
        pl.concat([pl.DataFrame(schema=schema), *frames]).lazy(),
        [*names],
        pl.concat([SCHEMAS["rejects"].to_frame(), *rejects]),
    )


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


def _read_csv(path: Path, source: str) -> tuple[pl.LazyFrame, pl.DataFrame]:
    """Rows of a CSV whose first line names the columns, parted by what that line holds most of."""
    broken: list[tuple[str, int, str, str, None]] = []
    content = _read_content(path, source, broken)
    header = content.partition(b"\n")[0].decode(errors="replace")
    separator = max(_SEPARATORS, key=header.count)
    try:
        if any(reason == "line_too_long" for _, _, reason, _, _ in broken):
            # Polars would read the blank line in its place as a row.
            frame = _read_rows(content, separator, source, broken)
        else:
            frame = pl.read_csv(content, separator=separator, infer_schema=False)
    except pl.exceptions.NoDataError:
        frame = pl.DataFrame()
    except pl.exceptions.PolarsError:
        frame = _read_rows(content, separator, source, broken)
    rejects = pl.DataFrame(broken, schema=SCHEMAS["rejects"], orient="row")
    if frame.is_empty():
        return pl.LazyFrame(), rejects
    if _LINE not in frame.columns:
        frame = frame.with_row_index(_LINE, offset=2)
    raw = pl.concat_str(pl.all().exclude(_LINE).fill_null(""), separator=separator).alias(_RAW)
    return frame.lazy().with_columns(raw), rejects


def _read_content(path: Path, source: str, broken: list[tuple[str, int, str, str, None]]) -> bytes:
    """A CSV's text; a blank line in place of one that is too long."""
    pieces: list[bytes] = []
    for block in cut(path, source):
        if block.problem:
            broken.append((source, block.first, block.problem, block.content.decode(errors="replace"), None))
        pieces.append(b"" if block.problem else block.content)
    return b"\n".join(pieces)


def _read_rows(
    content: bytes, separator: str, source: str, broken: list[tuple[str, int, str, str, None]]
) -> pl.DataFrame:
    """Read row by row what polars refused as a whole: too many cells or broken text reject the row alone."""
    csv.field_size_limit(MAX_LINE)
    reader = csv.reader(io.StringIO(content.decode(errors="replace"), newline=""), delimiter=separator)
    header = next(reader)
    rows: list[list[Any]] = []
    for number in count(2):
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
            short = [None] * (len(header) - len(cells))
            rows.append([number, *(cell or None for cell in cells), *short])
    schema = {_LINE: pl.Int64, **dict.fromkeys(header, pl.String)}
    return pl.DataFrame(rows, schema=schema, orient="row")
