"""Slices: equal, half-open time windows. Also parses durations and instants."""

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
    """Parse ISO 8601 text, a TOML datetime or epoch milliseconds to an aware UTC datetime. Raises ValueError."""
    with suppress(ValueError, OverflowError, OSError):
        if isinstance(text, str):
            text = datetime.fromisoformat(text)
        if isinstance(text, datetime):
            return text.replace(tzinfo=text.tzinfo or UTC).astimezone(UTC)
        if isinstance(text, int | float) and not isinstance(text, bool):
            return datetime.fromtimestamp(text / 1000, UTC)
    raise ValueError(f"{text!r} is not an instant: write it like 2026-01-05T00:00:00Z")


def _duration_text(duration: timedelta) -> str:
    """A duration as written in a project file: `"7d"`, `"12h"`, `"45m"`, `"90s"`."""
    unit = next(u for u in reversed(_UNITS) if duration % timedelta(seconds=_UNITS[u]) == timedelta(0))
    return f"{duration // timedelta(seconds=_UNITS[unit])}{unit}"


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(instant: datetime) -> int:
    """Microseconds since the Unix epoch."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def instant(microseconds: int) -> datetime:
    """The UTC instant of microseconds since the Unix epoch."""
    return _EPOCH + timedelta(microseconds=microseconds)


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
"""Allowed slice lengths: those that a cron schedule can repeat from any minute."""


class Section(BaseModel):
    """Base of project file sections: frozen, rejects unknown keys and non-finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Slices(Section):
    """Equal time slices from `start` (inclusive) to `end` (exclusive)."""

    start: Instant
    every: Duration = timedelta(days=1)
    end: Instant | None = None

    @model_validator(mode="after")
    def _on_a_calendar(self) -> "Slices":
        if self.every not in EVERY:
            allowed = ", ".join(f'"{_duration_text(every)}"' for every in EVERY)
            raise ValueError(
                f'slices.every is "{_duration_text(self.every)}", which cron cannot repeat: choose one of {allowed}'
            )
        if self.start.second or self.start.microsecond:
            raise ValueError(
                f"slices.start is {self.start.isoformat()}: write a whole minute, because slice keys have no seconds"
            )
        return self

    @model_validator(mode="after")
    def _ends_with_a_slice(self) -> "Slices":
        if self.end is None:
            return self
        if self.end <= self.start:
            raise ValueError("slices.end must come after slices.start")
        if remainder := (self.end - self.start) % self.every:
            before = self.end - remainder
            earlier = f"{before.isoformat()} or " if before > self.start else ""
            raise ValueError(
                f"slices.end is {self.end.isoformat()}, in the middle of a slice: write {earlier}"
                f"{(before + self.every).isoformat()}"
            )
        return self

    @property
    def key_format(self) -> str:
        """strftime format of slice keys, which sort as text."""
        return "%Y-%m-%d" if self.every % timedelta(days=1) == timedelta(0) else "%Y-%m-%d-%H:%M"

    def key(self, instant: datetime) -> str:
        """Key of the slice that contains `instant`."""
        steps = (instant - self.start) // self.every
        return (self.start + steps * self.every).strftime(self.key_format)

    def window(self, key: str) -> tuple[datetime, datetime]:
        """[start, end) of a slice. Raises ProjectError for an invalid key."""
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
                f"slice {key!r} does not exist: slices start at {self.key(self.start)!r} and repeat every {self.every}"
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
        """Key of the newest slice that has ended at `by`, or None."""
        until = by if self.end is None else min(by, self.end)
        ended = (until - self.start) // self.every
        return self.key(self.start + (ended - 1) * self.every) if ended > 0 else None

    def widest_gap(self, first: str, last: str, keys: Collection[str]) -> tuple[str, str, int] | None:
        """First key, last key and length of the longest run of slices in [first, last] missing from `keys`, or None."""
        bounds = [self.window(first)[0] - self.every, self.window(last)[1]]
        starts = sorted({*bounds, *(self.window(key)[0] for key in keys if first <= key <= last)})
        before, after = max(pairwise(starts), key=lambda pair: pair[1] - pair[0])
        missing = (after - before) // self.every - 1
        return (self.key(before + self.every), self.key(after - self.every), missing) if missing else None

    def number(self, key: str) -> int:
        """Number of a slice, from 1. Raises ProjectError for an invalid key."""
        return (self.window(key)[0] - self.start) // self.every + 1

    def following(self, key: str) -> str:
        """Key of the slice after."""
        return self.key(self.window(key)[1])

    def previous(self, key: str) -> str | None:
        """Key of the slice before, or None for the first."""
        start, _ = self.window(key)
        return None if start == self.start else self.key(start - self.every)
