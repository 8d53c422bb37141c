"""JSON texts → values of a declared type, many at a time. Texts that cannot be decoded are reported."""

from collections.abc import Callable
from typing import Any

import polars as pl

_CHUNK = 2048
"""Texts decoded in one call: with more, time grows faster than length."""
_MIN_CHUNK = 16
_BLANKS = " \t\r\n"
_ESCAPE = r"\u"
_SURROGATE = r"(?i)\\ud[89a-f]"
"""Escapes of surrogates, which polars reads as NUL if they are unpaired."""
_SURROGATE_PAIR = r"(?i)\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}"


def decode(texts: pl.Series, dtype: pl.Struct | pl.List) -> tuple[pl.Series, pl.Series]:
    """Decode texts: the values of those that could be decoded, in order, and for every text whether it could.

    Not decoded are broken texts, texts that are not an object (or array, if `dtype` is a list), texts that do not
    fit `dtype`, and up to 15 neighbours of such a text. Numbers and booleans become text if `dtype` says so; a
    single value becomes a list of one if `dtype` says so. Keys that are not in `dtype` are ignored.
    """
    read = _looks_complete(texts, "{}" if isinstance(dtype, pl.Struct) else "[]")
    candidates = texts.filter(read)
    chunks = [candidates.slice(start, _CHUNK) for start in range(0, len(candidates), _CHUNK)]
    pieces = [piece for chunk in chunks for piece in _decode(chunk, dtype)]
    values = pl.concat(
        [pl.Series([], dtype=dtype), *(p for p in pieces if isinstance(p, pl.Series))], rechunk=True
    )
    if len(values) < len(candidates):
        decoded = [pl.repeat(isinstance(p, pl.Series), _count(p), eager=True) for p in pieces]
        read = read.scatter(read.arg_true().filter(~pl.concat(decoded)), False)
    return values, read


def decode_each(texts: pl.Series, dtype: pl.Struct | pl.List, read_one: Callable[[str], Any]) -> pl.Series:
    """Decode all texts, in order; `read_one` parses those that `decode` cannot."""
    values, read = decode(texts, dtype)
    if len(values) == len(texts):
        return values
    others = [None if text is None else read_one(text) for text in texts.filter(~read)]
    order = pl.concat([read.arg_true(), (~read).arg_true()]).arg_sort()
    return pl.concat([values, pl.Series(others, dtype=dtype)]).gather(order)


def _decode(chunk: pl.Series, dtype: pl.DataType) -> list[pl.Series | int]:
    """Decode a chunk in one call; if that fails, decode its halves. A number counts texts that are not decoded."""
    try:
        values = chunk.str.json_decode(dtype)
    except pl.exceptions.PolarsError:
        values = chunk.head(0)
    # Two objects in one text give two values.
    if len(values) == len(chunk):
        return [values]
    if len(chunk) <= _MIN_CHUNK:
        return [len(chunk)]
    half = len(chunk) // 2
    return [*_decode(chunk.head(half), dtype), *_decode(chunk.slice(half), dtype)]


def _looks_complete(texts: pl.Series, brackets: str) -> pl.Series:
    """Whether a text begins and ends with the brackets and has no unpaired surrogate."""
    complete = _is_between(texts, brackets)
    rows = (~complete).arg_true()
    if len(rows):
        complete = complete.scatter(rows, _is_between(texts.gather(rows).str.strip_chars(_BLANKS), brackets))
    rows = texts.str.contains(_ESCAPE, literal=True).arg_true()
    if len(rows):
        escaped = texts.gather(rows)
        # After an escaped backslash, `\\u` may be no escape.
        unpaired = escaped.str.replace_all(_SURROGATE_PAIR, "").str.contains(
            _SURROGATE
        ) | escaped.str.contains(r"\\\\u")
        complete = complete.scatter(rows.filter(unpaired), False)
    return complete.fill_null(True)


def _is_between(texts: pl.Series, brackets: str) -> pl.Series:
    return texts.str.starts_with(brackets[0]) & texts.str.ends_with(brackets[1])


def _count(piece: pl.Series | int) -> int:
    return piece if isinstance(piece, int) else len(piece)
