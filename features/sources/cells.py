"""Cells of a table, of whatever type → text, and lists of text."""

import json

import polars as pl
from polars.datatypes import DataTypeClass

from features.sources.items import TEXTS, text_of
from features.sources.json_texts import decode_each


def read_texts(cells: pl.Series) -> pl.Series:
    """Each cell as text; whole floats (a column of integers with gaps) without their fraction.

    Null for what has no text: lists, structs, bytes.
    """
    if not _has_text(cells.dtype):
        return pl.repeat(None, len(cells), dtype=pl.String, eager=True).alias(cells.name)
    return cells.to_frame().select(_text(pl.col(cells.name), cells.dtype)).to_series()


def read_lists(cells: pl.Series, separator: str) -> pl.Series:
    r"""Lists of texts: from real lists, JSON lists, or text parted by the characters of `separator` (`|`, `\s`).

    Null where a JSON list is broken.
    """
    if isinstance(cells.dtype, pl.Array):
        cells = cells.arr.to_list()
    if isinstance(cells.dtype, pl.List):
        inner = cells.dtype.inner
        if not _has_text(inner):
            return pl.repeat(None, len(cells), dtype=TEXTS, eager=True).alias(cells.name)
        return cells.to_frame().select(pl.all().list.eval(_text(pl.element(), inner))).to_series()
    texts = read_texts(cells).str.strip_chars()
    lists = texts.str.extract_all(f"[^{separator}]+")
    is_json = texts.str.starts_with("[").fill_null(False)
    if not is_json.any():
        return lists
    decoded = decode_each(texts.set(~is_json, None), TEXTS, _read_list)
    return decoded.zip_with(is_json, lists).alias(cells.name)


def read_values(cells: pl.Series, *, parted: bool) -> pl.Series:
    """A field's values: a cell's own text, or several, where the cell is a list or `parted` by `|` or in JSON."""
    if parted or isinstance(cells.dtype, pl.List | pl.Array):
        return read_lists(cells, "|")
    return read_texts(cells).to_frame().select(pl.concat_list(pl.all())).to_series()


def _text(cell: pl.Expr, dtype: DataTypeClass | pl.DataType) -> pl.Expr:
    if dtype.is_float():
        whole = cell.cast(pl.Int64, strict=False)
        return pl.when(whole == cell).then(whole.cast(pl.String)).otherwise(cell.cast(pl.String))
    if isinstance(dtype, pl.Datetime):
        return cell.dt.to_string("%Y-%m-%dT%H:%M:%S%.f" + ("%:z" if dtype.time_zone else ""))
    return cell.cast(pl.String)


def _has_text(dtype: DataTypeClass | pl.DataType) -> bool:
    return not dtype.is_nested() and dtype != pl.Binary


def _read_list(text: str) -> list[str | None] | None:
    try:
        return [text_of(entry) for entry in json.loads(text)]
    except ValueError:
        return None
