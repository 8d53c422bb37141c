"""JSON texts → values of a declared type, many at a time. Texts that are left over are named, not guessed at."""

from collections.abc import Callable
from typing import Any

import polars as pl

_CHUNK = 2048
"""Texts decoded in one go: beyond this, time grows faster than length."""
_ALONE = 16
_BLANKS = " \t\r\n"
_ESCAPE = r"\u"
_HALF = r"(?i)\\ud[89a-f]"
"""Escapes that may be half a character, which polars reads as NUL."""
_WHOLE = r"(?i)\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}"


def decode(texts: pl.Series, dtype: pl.Struct | pl.List) -> tuple[pl.Series, pl.Series]:
    """The values of the texts that could be decoded, in order; and for every text whether it could.

    Left over are broken texts, texts that are no object (or no array, where `dtype` is a list), texts with
    something in them that `dtype` cannot hold, and up to 15 neighbours of such a text. Numbers and truth values
    become text where `dtype` says so; a value where it wants a list becomes that list's only entry. Keys that
    `dtype` does not name are passed over.
    """
    read = _looks_whole(texts, "{}" if isinstance(dtype, pl.Struct) else "[]")
    sound = texts.filter(read)
    chunks = [sound.slice(start, _CHUNK) for start in range(0, len(sound), _CHUNK)]
    pieces = [piece for chunk in chunks for piece in _decode(chunk, dtype)]
    values = pl.concat(
        [pl.Series([], dtype=dtype), *(p for p in pieces if isinstance(p, pl.Series))], rechunk=True
    )
    if len(values) < len(sound):
        decoded = [pl.repeat(isinstance(p, pl.Series), _count(p), eager=True) for p in pieces]
        read = read.scatter(read.arg_true().filter(~pl.concat(decoded)), False)
    return values, read


def decode_each(texts: pl.Series, dtype: pl.Struct | pl.List, read_one: Callable[[str], Any]) -> pl.Series:
    """The values of all texts, in order: those that `decode` leaves over are what `read_one` makes of them."""
    values, read = decode(texts, dtype)
    if len(values) == len(texts):
        return values
    left = texts.filter(~read)
    rest = pl.Series([None if text is None else read_one(text) for text in left], dtype=dtype)
    places = pl.concat([read.arg_true(), (~read).arg_true()])
    return pl.concat([values, rest]).gather(places.arg_sort())


def _decode(chunk: pl.Series, dtype: pl.DataType) -> list[pl.Series | int]:
    """Decode a chunk in one go; where a text stops it, halve it. A number stands for so many texts left over."""
    try:
        values = chunk.str.json_decode(dtype)
    except pl.exceptions.PolarsError:
        values = chunk.head(0)
    # Two objects in one text are decoded as two.
    if len(values) == len(chunk):
        return [values]
    if len(chunk) <= _ALONE:
        return [len(chunk)]
    half = len(chunk) // 2
    return [*_decode(chunk.head(half), dtype), *_decode(chunk.slice(half), dtype)]


def _looks_whole(texts: pl.Series, brackets: str) -> pl.Series:
    """Whether a text begins and ends as it should, and has no escape of half a character."""
    whole = _is_between(texts, brackets)
    places = (~whole).arg_true()
    if len(places):
        whole = whole.scatter(places, _is_between(texts.gather(places).str.strip_chars(_BLANKS), brackets))
    places = texts.str.contains(_ESCAPE, literal=True).arg_true()
    if len(places):
        escaped = texts.gather(places)
        # Behind an escaped backslash, what looks like an escape is none.
        halved = escaped.str.replace_all(_WHOLE, "").str.contains(_HALF) | escaped.str.contains(r"\\\\u")
        whole = whole.scatter(places.filter(halved), False)
    return whole.fill_null(True)


def _is_between(texts: pl.Series, brackets: str) -> pl.Series:
    return texts.str.starts_with(brackets[0]) & texts.str.ends_with(brackets[1])


def _count(piece: pl.Series | int) -> int:
    return piece if isinstance(piece, int) else len(piece)
