"""Instants as logs write them → UTC microseconds, vectorised.

Numbers are epochs whose unit is told by their size: below 1e11 seconds, below 1e14 milliseconds, below 1e17
microseconds, below 1e20 nanoseconds; so every reading but that of small seconds falls between 1973 and 5138.
Text is such a number or ISO 8601; without an offset it is UTC. So is what databases and Python write in its place:
`2026-01-06 12:00:00+00`, `… UTC`, `2026/01/06 12:00`. Other forms, such as day-first dates, must be declared.
"""

import polars as pl

from features.errors import ProjectError
from features.sources.raw import INSTANT

_NUMBER = r"^-?\d+(\.\d+)?([eE][+-]?\d+)?$"
_ISO = ("%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%dT%H:%M%z", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
_RARE = (
    (r"^(\d{4})/(\d\d?)/(\d\d?)", "${1}-${2}-${3}"),
    (r"\s*(?:UTC|GMT|[zZ])$", "+00:00"),
    (r"(:[\d.]+)\s*([+-]\d\d)(?::?(\d\d))?$", "${1}${2}:${3}"),
    (r"([+-]\d\d:)$", "${1}00"),
    (r"(:\d\d),(\d+)", "${1}.${2}"),
    (r"\s+", "T"),
)
"""What turns the forms of databases and Python into ISO 8601, in this order."""
_YEAR_ONE = -62_135_596_800_000_000


def read_instants(values: pl.Series, time_format: str = "") -> pl.Series:
    """Instants of any column: Datetime, Date, number or text. What is no instant becomes null.

    `time_format` is a strptime form: text and numbers that fit it are read by it, all others as without it. Raises
    ProjectError for one that polars cannot use.
    """
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String, strict=False)
    if time_format and (values.dtype == pl.String or values.dtype.is_integer()):
        texts = values.cast(pl.String).str.strip_chars()
        try:
            read = texts.str.to_datetime(time_format, strict=False, time_unit="us", time_zone="UTC")
        except pl.exceptions.ComputeError as error:
            said = str(error).partition("\n")[0]
            raise ProjectError(f"source.tables.time_format: {time_format!r} cannot be used: {said}") from None
        return read.zip_with(read.is_not_null(), read_instants(values))
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
    read = _from_iso(written, plain)
    if read.null_count() > written.null_count():
        other = pl.col("text")
        for form, iso in _RARE:
            other = other.str.replace(form, iso)
        read = read.zip_with(read.is_not_null(), _from_iso(written.set(read.is_not_null(), None), other))
    return epochs.zip_with(is_number, read).alias(texts.name)


def _from_iso(texts: pl.Series, text: pl.Expr) -> pl.Series:
    forms = [text.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC") for form in _ISO]
    return texts.alias("text").to_frame().select(pl.coalesce(forms))["text"]


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
