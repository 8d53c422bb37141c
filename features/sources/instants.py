"""Instants as logs write them → UTC microseconds, vectorised.

Numbers are epochs whose unit is told by their size: below 1e11 seconds, below 1e14 milliseconds, below 1e17
microseconds, below 1e20 nanoseconds; so every reading but that of small seconds falls between 1973 and 5138.
Text is such a number or ISO 8601; without an offset it is UTC.
"""

import polars as pl

from features.sources.raw import INSTANT

_NUMBER = r"^-?\d+(\.\d+)?([eE][+-]?\d+)?$"
_ISO = ("%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%dT%H:%M%z", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
_YEAR_ONE = -62_135_596_800_000_000


def read_instants(values: pl.Series) -> pl.Series:
    """Instants of any column: Datetime, Date, number or text. What is no instant becomes null."""
    if isinstance(values.dtype, pl.Datetime):
        naive = values.dtype.time_zone is None
        aware = values.dt.replace_time_zone("UTC") if naive else values.dt.convert_time_zone("UTC")
        return aware.cast(INSTANT)
    if values.dtype == pl.Date:
        return values.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if values.dtype.is_numeric():
        return _from_epoch(values.cast(pl.Float64))
    if values.dtype == pl.String:
        return _from_text(values.str.strip_chars())
    return pl.Series(values.name, [None] * len(values), INSTANT)


def _from_text(texts: pl.Series) -> pl.Series:
    whole = texts.cast(pl.Int64, strict=False)
    epochs = _from_epoch(whole.cast(pl.Float64))
    if whole.null_count() == texts.null_count():
        return epochs
    return epochs.zip_with(whole.is_not_null(), _from_other_text(texts))


def _from_other_text(texts: pl.Series) -> pl.Series:
    is_number = texts.str.contains(_NUMBER).fill_null(False)
    epochs = _from_epoch(texts.set(~is_number, None).cast(pl.Float64, strict=False))
    written = texts.set(is_number, None)
    if written.null_count() == len(written):
        return epochs
    plain = pl.col("text").str.replace(" ", "T", literal=True).str.replace("[zZ]$", "+00:00")
    iso = [plain.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC") for form in _ISO]
    read = written.alias("text").to_frame().select(pl.coalesce(iso))["text"]
    return epochs.zip_with(is_number, read).alias(texts.name)


def _from_epoch(numbers: pl.Series) -> pl.Series:
    size = pl.col("n").abs()
    scale = (
        pl.when(size < 1e11)
        .then(1e6)
        .when(size < 1e14)
        .then(1e3)
        .when(size < 1e17)
        .then(1.0)
        .when(size < 1e20)
        .then(1e-3)
    )
    micros = (pl.col("n") * scale).round().cast(pl.Int64, strict=False)
    sound = pl.when(micros >= _YEAR_ONE).then(micros).cast(INSTANT)
    return numbers.alias("n").to_frame().select(sound.alias("n"))["n"].alias(numbers.name)
