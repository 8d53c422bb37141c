"""Slices: time cut into equal, half-open windows; and how durations and instants are written."""

from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from features.errors import ProjectError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: object) -> timedelta:
    """`"90s"`, `"5m"`, `"1h"`, `"7d"` → timedelta. Raises ValueError on anything else."""
    if isinstance(text, timedelta):
        return text
    if isinstance(text, str) and text[:-1].isdecimal() and text[-1:] in _UNITS:
        seconds = int(text[:-1]) * _UNITS[text[-1]]
        if seconds <= timedelta.max.total_seconds():
            return timedelta(seconds=seconds)
    raise ValueError(f'{text!r} is not a duration: write a whole number and s, m, h or d, for example "30m"')


def parse_instant(text: object) -> datetime:
    """ISO 8601 text, a TOML datetime, or epoch milliseconds → an aware UTC datetime. Raises ValueError."""
    with suppress(ValueError, OverflowError, OSError):
        if isinstance(text, str):
            text = datetime.fromisoformat(text)
        if isinstance(text, datetime):
            return text.replace(tzinfo=text.tzinfo or UTC).astimezone(UTC)
        if isinstance(text, int | float) and not isinstance(text, bool):
            return datetime.fromtimestamp(text / 1000, UTC)
    raise ValueError(f"{text!r} is not an instant: write for example 2026-01-05T00:00:00Z")


def _written(duration: timedelta) -> str:
    """A duration as the project file has it: `"7d"`, `"12h"`, `"45m"`, `"90s"`."""
    unit = next(u for u in reversed(_UNITS) if duration % timedelta(seconds=_UNITS[u]) == timedelta(0))
    return f"{duration // timedelta(seconds=_UNITS[unit])}{unit}"


def microseconds(instant: datetime) -> int:
    """Microseconds from 1970 to an instant."""
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Instant = Annotated[datetime, BeforeValidator(parse_instant)]

EVERY = tuple(
    timedelta(minutes=minutes)
    for minutes in (
        *(m for m in range(1, 60) if 60 % m == 0),
        *(60 * h for h in range(1, 24) if 24 % h == 0),
        1440,
        7 * 1440,
    )
)
"""Lengths that a slice may have: a schedule repeats them from any minute on (cron knows no others)."""


class Section(BaseModel):
    """A part of the project file: frozen, no key but the declared ones, no number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Slices(Section):
    """Time cut into equal slices, `start` inclusive, `end` exclusive."""

    start: Instant
    every: Duration = timedelta(days=1)
    end: Instant | None = None

    @model_validator(mode="after")
    def _on_a_calendar(self) -> "Slices":
        if self.every not in EVERY:
            allowed = ", ".join(f'"{_written(every)}"' for every in EVERY)
            raise ValueError(
                f'slices.every is "{_written(self.every)}", which no schedule can repeat: choose one of {allowed}'
            )
        if self.start.second or self.start.microsecond:
            raise ValueError(
                f"slices.start is {self.start.isoformat()}: write a whole minute, a slice's key has no seconds"
            )
        return self

    @model_validator(mode="after")
    def _ends_with_a_slice(self) -> "Slices":
        if self.end is None:
            return self
        if self.end <= self.start:
            raise ValueError("slices.end must come after slices.start")
        if rest := (self.end - self.start) % self.every:
            before = self.end - rest
            earlier = f"{before.isoformat()} or " if before > self.start else ""
            raise ValueError(
                f"slices.end is {self.end.isoformat()}, inside a slice: write {earlier}"
                f"{(before + self.every).isoformat()}"
            )
        return self

    @property
    def key_format(self) -> str:
        """strftime form of a slice's key, sortable as text."""
        return "%Y-%m-%d" if self.every % timedelta(days=1) == timedelta(0) else "%Y-%m-%d-%H:%M"

    def key(self, instant: datetime) -> str:
        """Key of the slice that holds `instant`."""
        steps = (instant - self.start) // self.every
        return (self.start + steps * self.every).strftime(self.key_format)

    def window(self, key: str) -> tuple[datetime, datetime]:
        """[start, end) of a slice. Raises ProjectError for a key that no slice has."""
        try:
            start = datetime.strptime(key, self.key_format).replace(tzinfo=UTC)
        except ValueError:
            raise ProjectError(
                f"slice {key!r} is not written as {datetime.now(UTC).strftime(self.key_format)!r}"
            ) from None
        if self.key_format == "%Y-%m-%d":
            start = start.replace(hour=self.start.hour, minute=self.start.minute)
        if start < self.start or (start - self.start) % self.every:
            raise ProjectError(
                f"slice {key!r} does not exist: slices begin at {self.key(self.start)!r}, one every {self.every}"
            )
        return start, start + self.every

    def keys(self, since: datetime, until: datetime) -> list[str]:
        """Keys of the slices that start in [since, until), in order."""
        first = max(0, -((self.start - since) // self.every))
        keys: list[str] = []
        at = self.start + first * self.every
        while at < until and (self.end is None or at < self.end):
            keys.append(at.strftime(self.key_format))
            at += self.every
        return keys

    def last_ended(self, by: datetime) -> str | None:
        """The newest slice that has ended at an instant, or None."""
        until = by if self.end is None else min(by, self.end)
        ended = (until - self.start) // self.every
        return self.key(self.start + (ended - 1) * self.every) if ended > 0 else None

    def widest_gap(self, first: str, last: str, held: Collection[str]) -> tuple[str, str, int] | None:
        """First, last and number of the longest stretch of slices in [first, last] that `held` has none of."""
        bounds = [self.window(first)[0] - self.every, self.window(last)[1]]
        starts = sorted({*bounds, *(self.window(key)[0] for key in held if first <= key <= last)})
        before, after = max(pairwise(starts), key=lambda pair: pair[1] - pair[0])
        empty = (after - before) // self.every - 1
        return (self.key(before + self.every), self.key(after - self.every), empty) if empty else None

    def number(self, key: str) -> int:
        """Number of a slice in time, 1 for the first. Raises ProjectError for a key that no slice has."""
        return (self.window(key)[0] - self.start) // self.every + 1

    def previous(self, key: str) -> str | None:
        """The slice before, or None for the first."""
        start, _ = self.window(key)
        return None if start == self.start else self.key(start - self.every)
