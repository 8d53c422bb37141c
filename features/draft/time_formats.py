"""Find the strptime format of times that are neither ISO 8601 nor epoch numbers."""

from itertools import product

import polars as pl

_DAYS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d",
         "%d %b %Y", "%d-%b-%Y", "%d %B %Y", "%b %d %Y", "%B %d, %Y", "%d/%m/%y", "%m/%d/%y")  # fmt: skip
_HOURS = ("", " %H:%M:%S", " %H:%M", " %I:%M:%S %p", " %I:%M %p", " %H:%M:%S%.f", "T%H:%M:%S", "%H%M%S")
FORMATS = tuple(day + hour for day, hour in product(_DAYS, _HOURS))
MIN_PARSED = 0.98
"""Share of the texts that a format must parse."""


def read_format(texts: pl.Series, time_format: str) -> pl.Series:
    """Parse texts of one format as instants, in UTC unless they have an offset; null where that fails."""
    # Polars requires an hour in a datetime format.
    if any(mark in time_format for mark in ("%H", "%I")):
        return texts.str.to_datetime(time_format, strict=False, time_unit="us", time_zone="UTC")
    days = texts.str.to_date(time_format, strict=False)
    return days.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def find_formats(texts: pl.Series) -> list[str]:
    """Find the formats that parse nearly all texts.

    Several fit if day and month are ambiguous; one with which the times are sorted comes first.
    """
    first = texts.head(200)
    fitting = [time_format for time_format in FORMATS if _share(first, time_format) >= MIN_PARSED]
    fitting = [time_format for time_format in fitting if _share(texts, time_format) >= MIN_PARSED]
    return sorted(
        fitting, key=lambda time_format: not read_format(texts, time_format).drop_nulls().is_sorted()
    )


def _share(texts: pl.Series, time_format: str) -> float:
    """Share of texts parsed as a time after 1900: formats without separators parse nearly any number."""
    read = read_format(texts, time_format)
    return float((read.dt.year() >= 1900).sum()) / len(texts) if len(texts) else 0.0
