"""Slices: time cut into equal, half-open windows; and how durations and instants are written."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
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


def microseconds(instant: datetime) -> int:
    """Microseconds from 1970 to an instant."""
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Instant = Annotated[datetime, BeforeValidator(parse_instant)]


class Section(BaseModel):
    """A part of the project file: frozen, and no key but the declared ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Slices(Section):
    """Time cut into equal slices, `start` inclusive, `end` exclusive."""

    start: Instant
    every: Duration = timedelta(days=1)
    end: Instant | None = None

    @model_validator(mode="after")
    def _positive(self) -> "Slices":
        if self.every <= timedelta(0):
            raise ValueError("slices.every must be longer than nothing")
        if self.every % timedelta(minutes=1) or self.start.second or self.start.microsecond:
            raise ValueError(
                "slices.start and slices.every are whole minutes: a slice's key shows no seconds"
            )
        if self.end is not None and self.end <= self.start:
            raise ValueError("slices.end must come after slices.start")
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

    def previous(self, key: str) -> str | None:
        """The slice before, or None for the first."""
        start, _ = self.window(key)
        return None if start == self.start else self.key(start - self.every)
