"""When a log's events happened → the slices, the delays and the half-lives of the project file."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from features.config.slices import parse_duration
from features.draft.guesses import Guess

_LENGTHS = ("1m", "2m", "5m", "10m", "15m", "30m", "1h", "2h", "3h", "6h", "12h", "1d")
_FEWEST = 6
"""Slices that a short log is cut into at least."""
_MANY = 400
"""Slices of a day beyond which weeks are used."""
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Span:
    """The instants of a log's events, and how sure it is that they are all between `first` and `last`."""

    first: datetime
    last: datetime
    rows: int
    exact: bool
    """Whether every event was looked at, or the log is in order and its end was looked at."""
    dates: bool
    """Whether all instants are midnight: the log says the day only."""


def span_of(instants: pl.Series, complete: bool, to_end: bool) -> Span:
    """The span of a sample's instants, in the order of its rows.

    `complete`: they are all of the log's. `to_end`: the last ones of the log are among them.
    """
    found = instants.drop_nulls()
    first, last = found.min(), found.max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    dates = bool((found.dt.truncate("1d") == found).all()) and found.n_unique() > 1
    return Span(first, last, len(found), complete or (to_end and found.is_sorted()), dates)


def length_of(span: Span) -> str:
    """How long a slice is: a day where the log covers four or more, a week beyond 400 days, else a sixth or less."""
    long = span.last - span.first
    if span.dates or long >= 4 * _DAY:
        return "7d" if long > _MANY * _DAY else "1d"
    fitting = [text for text in _LENGTHS if parse_duration(text) * _FEWEST <= long]
    return fitting[-1] if fitting else _LENGTHS[0]


def guess_times(span: Span, known_at: bool = False) -> list[Guess]:
    """`source.known_after`, and `slices.start`, `every` and `end`. `known_at`: the log has times of arrival."""
    delay = _guess_delay(span, known_at)
    return [delay, *_guess_slices(span, parse_duration(delay.value))]


def _guess_slices(span: Span, known_after: timedelta) -> list[Guess]:
    length = length_of(span)
    every = parse_duration(length)
    unit = min(every, _DAY)
    midnight = span.first.replace(hour=0, minute=0, second=0, microsecond=0)
    start = midnight + (span.first - midnight) // unit * unit
    end = start + ((span.last + known_after - start) // every + 1) * every
    count = (end - start) // every
    whole = "" if span.exact else ", in a sample that may not hold the first and last"
    guesses = [
        Guess(
            "slices.start",
            start,
            f"the first event is of {span.first:%Y-%m-%d %H:%M:%S} UTC{whole}",
            "high" if span.exact else "low",
            "" if span.exact else "Events before slices.start are rejected: is anything older in the log?",
        ),
        Guess(
            "slices.every",
            length,
            f"events from {span.first:%Y-%m-%d %H:%M} to {span.last:%Y-%m-%d %H:%M} make {count:,} slices",
            "high" if length == "1d" else "medium",
            f"{count:,} slices take long: begin later, or make them longer." if count > _MANY else "",
        ),
    ]
    if not span.exact:
        evidence = "the log's last event is not known from a sample"
        review = (
            "Without an end, new logs go on where the old ones stop; write one for a log that is finished."
        )
        return [*guesses, Guess("slices.end", None, evidence, "low", review)]
    ends = f"the last event is of {span.last:%Y-%m-%d %H:%M:%S} UTC; take this line out once new logs arrive"
    return [*guesses, Guess("slices.end", end, ends)]


def guess_attribution(lags: pl.Series | None, every: timedelta) -> Guess:
    """`labels.attribution`, from the times between impressions and their interactions where the log has both."""
    usual = min(timedelta(minutes=30), every / 2)
    if lags is None or not len(lags):
        value = written(usual)
        return Guess(
            "labels.attribution", value, "interactions have the time of their impression: any length does"
        )
    late = lags.quantile(0.99) or timedelta(0)
    assert isinstance(late, timedelta)
    fitting = ("1m", "5m", "10m", "30m", "1h", "2h", "6h", "12h", "1d", "7d")
    value = next((text for text in fitting if parse_duration(text) > late), "7d")
    evidence = f"99% of interactions follow their impression within {written(late)}"
    return Guess("labels.attribution", value, evidence, "medium")


def _guess_delay(span: Span, known_at: bool) -> Guess:
    """`source.known_after`: nothing in a log says it, unless the log has times of arrival."""
    if known_at:
        return Guess("source.known_after", "0s", "the log says when each interaction became known")
    value = "1m" if parse_duration(length_of(span)) >= timedelta(hours=1) else "0s"
    return Guess(
        "source.known_after",
        value,
        "the log does not say when an interaction became known",
        "low",
        "How long after a click does your log have it? Features use nothing earlier.",
    )


def guess_memory(span: Span) -> list[Guess]:
    """Half-lives, and how long a key is kept, where the defaults do not fit the length of a slice."""
    length = length_of(span)
    every = parse_duration(length)
    says = f"in proportion to slices of {length}"
    if every > _DAY:
        return [
            Guess("features.half_lives", ("1d", "7d", "30d", "none"), says, "medium"),
            Guess("features.ttl", "365d", says, "medium"),
        ]
    if every < timedelta(hours=1):
        first = next(text for text in ("5m", "15m", "1h") if parse_duration(text) >= 2 * every)
        return [Guess("features.half_lives", (first, "none"), says, "medium")]
    return []


def written(length: timedelta) -> str:
    """A length as the project file writes it, in whole units, rounded up to seconds."""
    seconds = -(-length // timedelta(seconds=1))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
