"""Guess the format of a log's times, and slices, delays and half-lives from its events."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product

import polars as pl

from features.config.slices import parse_duration
from features.draft.guesses import Guess
from features.schemas import INSTANT

_DAYS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d",
         "%d %b %Y", "%d-%b-%Y", "%d %B %Y", "%b %d %Y", "%B %d, %Y", "%d/%m/%y", "%m/%d/%y")  # fmt: skip
_HOURS = ("", " %H:%M:%S", " %H:%M", " %I:%M:%S %p", " %I:%M %p", " %H:%M:%S%.f", "T%H:%M:%S", "%H%M%S")
FORMATS = tuple(day + hour for day, hour in product(_DAYS, _HOURS))
MIN_PARSED = 0.98
"""Share of the texts that a format must parse."""
_LENGTHS = ("1m", "2m", "5m", "10m", "15m", "30m", "1h", "2h", "3h", "6h", "12h", "1d")
_MIN_SLICES = 6
"""A short log is cut into at least this many slices."""
_MAX_SLICES = 400
"""Most daily slices; longer logs have weekly ones."""
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Span:
    """The time span of a log's events."""

    first: datetime
    last: datetime
    rows: int
    exact: bool
    """Whether all events were read, or the log is sorted by time and its end was read."""
    dates: bool
    """Whether all instants are midnight, so that the log has dates only."""


def span_of(instants: pl.Series, complete: bool, to_end: bool) -> Span:
    """The span of a sample's instants, in the order of its rows.

    `complete`: the sample has all rows. `to_end`: it has the last rows.
    """
    known = instants.drop_nulls()
    first, last = known.min(), known.max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    dates = bool((known.dt.truncate("1d") == known).all()) and known.n_unique() > 1
    return Span(first, last, len(known), complete or (to_end and known.is_sorted()), dates)


def slice_length(span: Span) -> str:
    """Slice length: a week for logs of over 400 days, a day for four days or more, else at most a sixth of the span."""
    duration = span.last - span.first
    if span.dates or duration >= 4 * _DAY:
        return "7d" if duration > _MAX_SLICES * _DAY else "1d"
    fitting = [text for text in _LENGTHS if parse_duration(text) * _MIN_SLICES <= duration]
    return fitting[-1] if fitting else _LENGTHS[0]


def guess_times(span: Span, known_at: bool = False) -> list[Guess]:
    """`source.known_after`, and `slices.start`, `every` and `end`. `known_at`: whether the log has times of arrival."""
    delay = _guess_delay(span, known_at)
    return [delay, *_guess_slices(span, parse_duration(delay.value))]


def _guess_slices(span: Span, known_after: timedelta) -> list[Guess]:
    length = slice_length(span)
    every = parse_duration(length)
    unit = min(every, _DAY)
    midnight = span.first.replace(hour=0, minute=0, second=0, microsecond=0)
    start = midnight + (span.first - midnight) // unit * unit
    end = start + ((span.last + known_after - start) // every + 1) * every
    count = (end - start) // every
    sampled = "" if span.exact else ", in a sample that may lack the first and last events"
    guesses = [
        Guess(
            "slices.start",
            start,
            f"the first event is at {span.first:%Y-%m-%d %H:%M:%S} UTC{sampled}",
            "high" if span.exact else "low",
            "" if span.exact else "Events before slices.start are rejected: is anything older in the log?",
        ),
        Guess(
            "slices.every",
            length,
            f"events from {span.first:%Y-%m-%d %H:%M} to {span.last:%Y-%m-%d %H:%M} make {count:,} slices",
            "high" if length == "1d" else "medium",
            f"{count:,} slices take long to run: start later or use longer ones."
            if count > _MAX_SLICES
            else "",
        ),
    ]
    if not span.exact:
        evidence = "a sample does not show the log's last event"
        review = "Without an end, slices continue as new logs arrive; set one for a log that is finished."
        return [*guesses, Guess("slices.end", None, evidence, "low", review)]
    ends = f"the last event is at {span.last:%Y-%m-%d %H:%M:%S} UTC; remove this line once new logs arrive"
    return [*guesses, Guess("slices.end", end, ends)]


def guess_attribution(lags: pl.Series | None, every: timedelta) -> Guess:
    """`labels.attribution`, from the lags between impressions and interactions if the log has both."""
    usual = min(timedelta(minutes=30), every / 2)
    if lags is None or not len(lags):
        value = format_duration(usual)
        return Guess(
            "labels.attribution", value, "interactions have the time of their impression: any window works"
        )
    late = lags.quantile(0.99) or timedelta(0)
    assert isinstance(late, timedelta)
    fitting = ("1m", "5m", "10m", "30m", "1h", "2h", "6h", "12h", "1d", "7d")
    value = next((text for text in fitting if parse_duration(text) > late), "7d")
    evidence = f"99% of interactions follow their impression within {format_duration(late)}"
    return Guess("labels.attribution", value, evidence, "medium")


def _guess_delay(span: Span, known_at: bool) -> Guess:
    """`source.known_after`, which only a log with times of arrival shows."""
    if known_at:
        return Guess("source.known_after", "0s", "the log says when each interaction became known")
    value = "1m" if parse_duration(slice_length(span)) >= timedelta(hours=1) else "0s"
    return Guess(
        "source.known_after",
        value,
        "the log does not say when an interaction became known",
        "low",
        "How long after a click does your log have it? Features use it only from then on.",
    )


def guess_half_lives(span: Span) -> list[Guess]:
    """`features.half_lives` and `features.ttl`, if the defaults do not fit the slice length."""
    length = slice_length(span)
    every = parse_duration(length)
    evidence = f"in proportion to slices of {length}"
    if every > _DAY:
        return [
            Guess("features.half_lives", ("1d", "7d", "30d", "none"), evidence, "medium"),
            Guess("features.ttl", "365d", evidence, "medium"),
        ]
    if every < timedelta(hours=1):
        first = next(text for text in ("5m", "15m", "1h") if parse_duration(text) >= 2 * every)
        return [Guess("features.half_lives", (first, "none"), evidence, "medium")]
    return []


def format_duration(length: timedelta) -> str:
    """Format a duration for the project file, rounded up to seconds."""
    seconds = -(-length // timedelta(seconds=1))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def read_format(texts: pl.Series, time_format: str) -> pl.Series:
    """Parse texts of one format as instants, in UTC unless they have an offset; null where that fails."""
    # Polars requires an hour in a datetime format.
    if any(mark in time_format for mark in ("%H", "%I")):
        return texts.str.to_datetime(time_format, strict=False, time_unit="us", time_zone="UTC")
    return texts.str.to_date(time_format, strict=False).cast(INSTANT)


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
