"""Cells of a table, of any type → text, ids (stripped), grades, and lists of text."""

import json
import re
from collections.abc import Iterable

import polars as pl
from polars.datatypes import DataTypeClass

from features.errors import SourceError
from features.sources.item_rows import TEXTS, text_of
from features.sources.json_texts import decode_each

SPACES = r"\s"
_SIGNS = (",", ";", "|")
_TRUTH = {"true": 1.0, "t": 1.0, "yes": 1.0, "y": 1.0, "false": 0.0, "f": 0.0, "no": 0.0, "n": 0.0}
_NULLS = ("null", "none", "nan")

_ENTRY = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s,"'\[\]{}\\]+)"""
_BETWEEN = r"(?:\s*,\s*|\s+)"
_LIST = re.compile(rf"\s*(?:{_ENTRY}(?:{_BETWEEN}{_ENTRY})*)?\s*,?\s*")


def read_texts(cells: pl.Series) -> pl.Series:
    """Each cell as text; integral floats (integers in a column with nulls) without their fraction.

    NaN, lists, structs and durations become null.
    """
    if not _has_text(cells.dtype):
        return pl.repeat(None, len(cells), dtype=pl.String, eager=True).alias(cells.name)
    if cells.dtype == pl.Binary:
        return texts_of_bytes(cells)
    return cells.to_frame().select(_text(pl.col(cells.name), cells.dtype)).to_series()


def texts_of_bytes(cells: pl.Series) -> pl.Series:
    """Binary cells (Parquet text without its annotation) as text; null if they are not UTF-8."""
    try:
        return cells.cast(pl.String)
    except pl.exceptions.ComputeError:
        texts = [None if cell is None else cell.decode(errors="replace") for cell in cells]
        return pl.Series(
            cells.name, [None if text and "\ufffd" in text else text for text in texts], pl.String
        )


def read_ids(cells: pl.Series) -> pl.Series:
    """Each cell as an id: its stripped text."""
    return read_texts(cells).str.strip_chars()


def read_grades(cells: pl.Series) -> pl.Series:
    """Each cell as a number; 1 and 0 for true, yes, t, y and false, no, f, n. Null unless finite."""
    if cells.dtype.is_numeric() or cells.dtype == pl.Boolean:
        grades = cells.cast(pl.Float64)
    else:
        texts = read_texts(cells)
        grades = texts.str.strip_chars().cast(pl.Float64, strict=False)
        if grades.null_count() > texts.null_count():
            words = texts.str.strip_chars().str.to_lowercase()
            truth = words.replace_strict(_TRUTH, default=None, return_dtype=pl.Float64)
            grades = grades.zip_with(grades.is_not_null(), truth)
    return grades.set(~grades.is_finite().fill_null(True), None)


def read_id_lists(cells: pl.Series, separator: str) -> pl.Series:
    """Lists of ids, as `read_lists` and also from Postgres arrays (`{a,b}`)."""
    if not isinstance(cells.dtype, pl.List | pl.Array):
        texts = read_texts(cells).str.strip_chars()
        array = texts.str.starts_with("{") & texts.str.ends_with("}")
        if array.any():
            inside = texts.str.slice(1, texts.str.len_chars() - 2)
            cells = texts.zip_with(~array.fill_null(False), "[" + inside + "]")
    lists = read_lists(cells, separator).to_frame()
    return lists.select(pl.all().list.eval(pl.element().str.strip_chars())).to_series()


def read_lists(cells: pl.Series, separator: str) -> pl.Series:
    r"""Lists of text from list cells, bracketed text, or text split at `separator` (`\s`: at whitespace).

    Bracketed text is JSON or the output of Python and NumPy (`['a', 'b']`, `[1 2]`). Broken lists become null.
    """
    if isinstance(cells.dtype, pl.Array):
        cells = cells.arr.to_list()
    if isinstance(cells.dtype, pl.List):
        inner = cells.dtype.inner
        if not _has_text(inner) or inner == pl.Binary:
            return pl.repeat(None, len(cells), dtype=TEXTS, eager=True).alias(cells.name)
        return cells.to_frame().select(pl.all().list.eval(_text(pl.element(), inner))).to_series()
    texts = read_texts(cells).str.strip_chars()
    lists = texts.str.extract_all(r"\S+") if separator == SPACES else _split(texts, separator)
    bracketed = texts.str.starts_with("[").fill_null(False)
    if not bracketed.any():
        return lists
    single = bracketed & texts.str.contains("'", literal=True) & ~texts.str.contains(r"""["\\]""")
    texts = texts.zip_with(~single.fill_null(False), texts.str.replace_all("'", '"', literal=True))
    decoded = decode_each(texts.set(~bracketed, None), TEXTS, _read_list)
    return decoded.zip_with(bracketed, lists).alias(cells.name)


def read_values(cells: pl.Series, *, split: bool) -> pl.Series:
    """A field's values: the entries of a list cell, with `split` of JSON or of text separated by `|`, else the text."""
    if split or isinstance(cells.dtype, pl.List | pl.Array):
        return read_lists(cells, "|")
    return read_texts(cells).to_frame().select(pl.concat_list(pl.all())).to_series()


def find_separator(source: str, columns: Iterable[pl.Series]) -> str:
    """Find the separator of ids in a file's list columns: whitespace, `,`, `;` or `|`.

    Raises SourceError if several occur, so that ids are never split nor lists read as one id.
    """
    texts = [_plain(cells) for cells in columns if not isinstance(cells.dtype, pl.List | pl.Array)]
    text = pl.col("text")
    firsts = {sign: _first(texts, text.str.contains(sign, literal=True)) for sign in _SIGNS}
    present = {sign: example for sign, example in firsts.items() if example}
    if not present:
        return SPACES
    joined = text.str.replace_all(r"\s*[,;|]\s*", ",")
    spaced = _first(texts, joined.str.contains(SPACES))
    if len(present) == 1 and spaced is None:
        return next(iter(present))
    examples = {repr(sign): example for sign, example in present.items()} | (
        {"blanks": spaced} if spaced else {}
    )
    shown = " and ".join(repr(example[:60]) for example in examples.values())
    raise SourceError(
        f"{source}: lists are separated by {' and '.join(examples)}, for example {shown}: set the ids' separator, "
        'for example source.tables.separator = "," (" " for blanks)'
    )


def _plain(cells: pl.Series) -> pl.DataFrame:
    """Texts of a column that are not bracketed lists."""
    texts = read_texts(cells).str.strip_chars().drop_nulls()
    return texts.filter(~texts.str.contains(r"^[\[{]")).to_frame("text")


def _first(columns: Iterable[pl.DataFrame], condition: pl.Expr) -> str | None:
    """The first text in the columns that meets a condition."""
    return next((text for column in columns for text in column.filter(condition).head(1)["text"]), None)


def _split(texts: pl.Series, separator: str) -> pl.Series:
    entries = pl.element().str.strip_chars()
    parts = texts.str.split(separator).to_frame()
    return parts.select(pl.all().list.eval(entries.filter(entries != ""))).to_series()


def _text(cell: pl.Expr, dtype: DataTypeClass | pl.DataType) -> pl.Expr:
    if dtype.is_float():
        integer = cell.cast(pl.Int64, strict=False)
        text = pl.when(cell.is_finite()).then(cell.cast(pl.String))
        return pl.when(integer == cell).then(integer.cast(pl.String)).otherwise(text)
    if isinstance(dtype, pl.Datetime):
        return cell.dt.to_string("%Y-%m-%dT%H:%M:%S%.f" + ("%:z" if dtype.time_zone else ""))
    return cell.cast(pl.String)


def _has_text(dtype: DataTypeClass | pl.DataType) -> bool:
    return not dtype.is_nested() and not isinstance(dtype, pl.Duration) and dtype != pl.Object


def _read_list(text: str) -> list[str | None] | None:
    """Parse one bracketed list: JSON, or the output of Python and NumPy (None if NumPy elided entries: `...`)."""
    try:
        return [text_of(entry) for entry in json.loads(text)]
    except (ValueError, RecursionError):
        inside = text[1:-1]
    if not text.endswith("]") or not _LIST.fullmatch(inside) or "..." in inside:
        return None
    return [_entry(entry) for entry in re.findall(_ENTRY, inside)]


def _entry(text: str) -> str | None:
    if text[0] in "\"'":
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return None if text.lower() in _NULLS else text
