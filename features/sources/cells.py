"""Cells of a table, of whatever type → text, ids, grades, and lists of text.

Ids are stripped of the blanks around them.
"""

import json
import re
from collections.abc import Iterable

import polars as pl
from polars.datatypes import DataTypeClass

from features.errors import SourceError
from features.sources.items import TEXTS, text_of
from features.sources.json_texts import decode_each

SPACES = r"\s"
_SIGNS = (",", ";", "|")
_TRUTH = {"true": 1.0, "t": 1.0, "yes": 1.0, "y": 1.0, "false": 0.0, "f": 0.0, "no": 0.0, "n": 0.0}
_NOTHING = ("null", "none", "nan")

_ENTRY = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s,"'\[\]{}\\]+)"""
_BETWEEN = r"(?:\s*,\s*|\s+)"
_LIST = re.compile(rf"\s*(?:{_ENTRY}(?:{_BETWEEN}{_ENTRY})*)?\s*,?\s*")


def read_texts(cells: pl.Series) -> pl.Series:
    """Each cell as text; whole floats (a column of integers with gaps) without their fraction.

    Null for what has no text: NaN, lists, structs, durations.
    """
    if not _has_text(cells.dtype):
        return pl.repeat(None, len(cells), dtype=pl.String, eager=True).alias(cells.name)
    if cells.dtype == pl.Binary:
        return texts_of_bytes(cells)
    return cells.to_frame().select(_text(pl.col(cells.name), cells.dtype)).to_series()


def texts_of_bytes(cells: pl.Series) -> pl.Series:
    """Binary cells (Parquet text without its annotation) as text; null for bytes that are not UTF-8."""
    try:
        return cells.cast(pl.String)
    except pl.exceptions.ComputeError:
        texts = [None if cell is None else cell.decode(errors="replace") for cell in cells]
        return pl.Series(
            cells.name, [None if text and "\ufffd" in text else text for text in texts], pl.String
        )


def read_ids(cells: pl.Series) -> pl.Series:
    """Each cell as an id: its text without the blanks around it."""
    return read_texts(cells).str.strip_chars()


def read_grades(cells: pl.Series) -> pl.Series:
    """Each cell as a number; 1 and 0 for true, yes, t, y and false, no, f, n. Null for what is no finite number."""
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
    """Lists of ids: as `read_lists`, and from Postgres arrays (`{a,b}`)."""
    if not isinstance(cells.dtype, pl.List | pl.Array):
        texts = read_texts(cells).str.strip_chars()
        array = texts.str.starts_with("{") & texts.str.ends_with("}")
        if array.any():
            inside = texts.str.slice(1, texts.str.len_chars() - 2)
            cells = texts.zip_with(~array.fill_null(False), "[" + inside + "]")
    lists = read_lists(cells, separator).to_frame()
    return lists.select(pl.all().list.eval(pl.element().str.strip_chars())).to_series()


def read_lists(cells: pl.Series, separator: str) -> pl.Series:
    r"""Lists of texts: from real lists, bracketed ones, or text parted by `separator` (`\s`: by blanks).

    Bracketed are JSON, and what Python and NumPy print (`['a', 'b']`, `[1 2]`). Null where such a list is broken.
    """
    if isinstance(cells.dtype, pl.Array):
        cells = cells.arr.to_list()
    if isinstance(cells.dtype, pl.List):
        inner = cells.dtype.inner
        if not _has_text(inner) or inner == pl.Binary:
            return pl.repeat(None, len(cells), dtype=TEXTS, eager=True).alias(cells.name)
        return cells.to_frame().select(pl.all().list.eval(_text(pl.element(), inner))).to_series()
    texts = read_texts(cells).str.strip_chars()
    lists = texts.str.extract_all(r"\S+") if separator == SPACES else _part(texts, separator)
    bracketed = texts.str.starts_with("[").fill_null(False)
    if not bracketed.any():
        return lists
    single = bracketed & texts.str.contains("'", literal=True) & ~texts.str.contains(r"""["\\]""")
    texts = texts.zip_with(~single.fill_null(False), texts.str.replace_all("'", '"', literal=True))
    decoded = decode_each(texts.set(~bracketed, None), TEXTS, _read_list)
    return decoded.zip_with(bracketed, lists).alias(cells.name)


def read_values(cells: pl.Series, *, parted: bool) -> pl.Series:
    """A field's values: a cell's own text, or several, where the cell is a list or `parted` by `|` or in JSON."""
    if parted or isinstance(cells.dtype, pl.List | pl.Array):
        return read_lists(cells, "|")
    return read_texts(cells).to_frame().select(pl.concat_list(pl.all())).to_series()


def find_separator(source: str, columns: Iterable[pl.Series]) -> str:
    """What parts the ids of a file's list columns: blanks, or the one sign (`,`, `;` or `|`) in their place.

    Raises SourceError where signs and blanks are mixed: one id is never read as several, nor a list as one id.
    """
    texts = [_plain(cells) for cells in columns if not isinstance(cells.dtype, pl.List | pl.Array)]
    text = pl.col("text")
    firsts = {sign: _first(texts, text.str.contains(sign, literal=True)) for sign in _SIGNS}
    found = {sign: example for sign, example in firsts.items() if example}
    if not found:
        return SPACES
    joined = text.str.replace_all(r"\s*[,;|]\s*", ",")
    spaced = _first(texts, joined.str.contains(SPACES))
    if len(found) == 1 and spaced is None:
        return next(iter(found))
    examples = {repr(sign): example for sign, example in found.items()} | (
        {"blanks": spaced} if spaced else {}
    )
    shown = " and ".join(repr(example[:60]) for example in examples.values())
    raise SourceError(
        f"{source}: lists are parted by {' and '.join(examples)}, for example {shown}: say which one parts the ids, "
        'for example source.tables.separator = "," (" " for blanks)'
    )


def _plain(cells: pl.Series) -> pl.DataFrame:
    """Texts of a column that are no bracketed lists."""
    texts = read_texts(cells).str.strip_chars().drop_nulls()
    return texts.filter(~texts.str.contains(r"^[\[{]")).to_frame("text")


def _first(columns: Iterable[pl.DataFrame], condition: pl.Expr) -> str | None:
    """The first text of the columns for which a condition holds."""
    return next((text for column in columns for text in column.filter(condition).head(1)["text"]), None)


def _part(texts: pl.Series, separator: str) -> pl.Series:
    entries = pl.element().str.strip_chars()
    parts = texts.str.split(separator).to_frame()
    return parts.select(pl.all().list.eval(entries.filter(entries != ""))).to_series()


def _text(cell: pl.Expr, dtype: DataTypeClass | pl.DataType) -> pl.Expr:
    if dtype.is_float():
        whole = cell.cast(pl.Int64, strict=False)
        written = pl.when(cell.is_finite()).then(cell.cast(pl.String))
        return pl.when(whole == cell).then(whole.cast(pl.String)).otherwise(written)
    if isinstance(dtype, pl.Datetime):
        return cell.dt.to_string("%Y-%m-%dT%H:%M:%S%.f" + ("%:z" if dtype.time_zone else ""))
    return cell.cast(pl.String)


def _has_text(dtype: DataTypeClass | pl.DataType) -> bool:
    return not dtype.is_nested() and not isinstance(dtype, pl.Duration) and dtype != pl.Object


def _read_list(text: str) -> list[str | None] | None:
    """One bracketed list: JSON, or what Python and NumPy print (which elides long arrays: `...`)."""
    try:
        return [text_of(entry) for entry in json.loads(text)]
    except (ValueError, RecursionError):
        inside = text[1:-1]
    if not text.endswith("]") or not _LIST.fullmatch(inside) or "..." in inside:
        return None
    return [_entry(found) for found in re.findall(_ENTRY, inside)]


def _entry(found: str) -> str | None:
    if found[0] in "\"'":
        return re.sub(r"\\(.)", r"\1", found[1:-1])
    return None if found.lower() in _NOTHING else found
