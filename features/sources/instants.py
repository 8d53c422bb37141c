"""Instants of a log → UTC microseconds, vectorised.

Numbers are epochs; their size gives the unit: below 1e11 seconds, below 1e14 milliseconds, below 1e17
microseconds, below 1e20 nanoseconds, so that all but small seconds fall between 1973 and 5138. Text is such a
number, ISO 8601 or a variant of it that databases and Python write (`2026-01-06 12:00:00+00`, `… UTC`,
`2026/01/06 12:00`); without an offset it is UTC. Other formats, such as day-first dates, must be declared.
"""

import polars as pl

from features.errors import ProjectError
from features.sources.raw import INSTANT

_NUMBER = r"^-?\d+(\.\d+)?([eE][+-]?\d+)?$"
_ISO = ("%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%dT%H:%M%z", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
_VARIANTS = (
    (r"^(\d{4})/(\d\d?)/(\d\d?)", "${1}-${2}-${3}"),
    (r"\s*(?:UTC|GMT|[zZ])$", "+00:00"),
    (r"(:[\d.]+)\s*([+-]\d\d)(?::?(\d\d))?$", "${1}${2}:${3}"),
    (r"([+-]\d\d:)$", "${1}00"),
    (r"(:\d\d),(\d+)", "${1}.${2}"),
    (r"\s+", "T"),
)
"""Replacements that turn the output of databases and Python into ISO 8601, in this order."""
_YEAR_ONE = -62_135_596_800_000_000


def read_instants(values: pl.Series, time_format: str = "") -> pl.Series:
    """Parse a column of Datetime, Date, numbers or text as instants; invalid values become null.

    `time_format` is a strptime format, which is tried first. Raises ProjectError if polars cannot use it.
    """
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String, strict=False)
    if time_format and (values.dtype == pl.String or values.dtype.is_integer()):
        texts = values.cast(pl.String).str.strip_chars()
        try:
            read = texts.str.to_datetime(time_format, strict=False, time_unit="us", time_zone="UTC")
        except pl.exceptions.ComputeError as error:
            reason = str(error).partition("\n")[0]
            raise ProjectError(
                f"source.tables.time_format: {time_format!r} cannot be used: {reason}"
            ) from None
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
    integers = texts.cast(pl.Int64, strict=False)
    epochs = _from_epoch(integers.cast(pl.Float64))
    if integers.null_count() == texts.null_count():
        return epochs
    return epochs.zip_with(integers.is_not_null(), _from_other_text(texts))


def _from_other_text(texts: pl.Series) -> pl.Series:
    is_number = texts.str.contains(_NUMBER).fill_null(False)
    epochs = _from_epoch(texts.set(~is_number, None).cast(pl.Float64, strict=False))
    written = texts.set(is_number, None)
    if written.null_count() == len(written):
        return epochs
    plain = pl.col("text").str.replace(" ", "T", literal=True).str.replace("[zZ]$", "+00:00")
    read = _from_iso(written, plain)
    if read.null_count() > written.null_count():
        variant = pl.col("text")
        for pattern, iso in _VARIANTS:
            variant = variant.str.replace(pattern, iso)
        read = read.zip_with(read.is_not_null(), _from_iso(written.set(read.is_not_null(), None), variant))
    return epochs.zip_with(is_number, read).alias(texts.name)


def _from_iso(texts: pl.Series, text: pl.Expr) -> pl.Series:
    instants = [text.str.to_datetime(iso, strict=False, time_unit="us", time_zone="UTC") for iso in _ISO]
    return texts.alias("text").to_frame().select(pl.coalesce(instants))["text"]


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
    valid = pl.when(micros >= _YEAR_ONE).then(micros).cast(INSTANT)
    return numbers.alias("n").to_frame().select(valid.alias("n"))["n"].alias(numbers.name)
