"""Requests and events as callers send them. Events have the format of `features/sources/jsonl_events.py`."""

import re
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from features.config.slices import microseconds
from features.sources.instants import read_instants

MOST_CANDIDATES = 1_000
MOST_EVENTS = 1_000
Id = Annotated[str, Field(min_length=1, max_length=512)]


_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)")
_UNITS = ((10**11, 1_000_000), (10**14, 1_000), (10**17, 1))
"""Whole epochs: those below the first number are multiplied by the second."""


def instant_of(value: Any) -> int | None:
    """Microseconds of an instant as `features/sources/instants.py` reads it. Raises ValueError."""
    if value is None:
        return None
    with suppress(ValueError):
        if isinstance(value, str) and _ISO.fullmatch(value):
            return microseconds(datetime.fromisoformat(value))
    if type(value) is int and value >= 0:
        for size, scale in _UNITS:
            if value < size:
                return value * scale
    found = read_instants(pl.Series([value]))[0] if isinstance(value, str | int | float) else None
    if not isinstance(found, datetime):
        raise ValueError("is not an instant: write for example 2026-01-05T00:00:00Z, or epoch milliseconds")
    return microseconds(found)


Instant = Annotated[
    int | None,
    BeforeValidator(instant_of),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]}, mode="validation"),
]
"""Sent as text or as an epoch, read as microseconds."""


def _once(items: list[str]) -> list[str]:
    if len(set(items)) < len(items):
        raise ValueError("names an item twice: name each once")
    return items


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RankRequest(_Body):
    """Items to rank for a user."""

    user_id: Id
    candidates: (
        Annotated[list[Id], Field(min_length=1, max_length=MOST_CANDIDATES), AfterValidator(_once)] | None
    ) = None
    """Item ids; by default items of the pool."""
    k: int | None = Field(None, ge=1, le=MOST_CANDIDATES)
    """Number of items to return; by default all candidates, or `lists.k` items of the pool."""
    query: str | None = Field(None, max_length=2_000)
    """What the user typed: similar items are added to the pool, and ranked by it if the project declares a query."""
    session_id: Id | None = None
    context: dict[str, str | list[str]] = {}
    """Declared context, by name."""
    at: Instant = None
    """Instant of the impression, after the newest event; by default now."""
    muted: list[Id] = Field([], max_length=MOST_CANDIDATES)
    """Items to leave out for this user."""
    explain: bool = False
    """Add a sentence of reasons to each item."""
    features: bool = False
    """Add the ranker's features to each item."""


class Pair(_Body):
    """A named value of an item or of the context."""

    name: Id
    value: Any = None


class Listed(_Body):
    """An item of an impression."""

    id: Id
    propensity: float | None = Field(None, gt=0, le=1)
    """Probability of the item at its position, as `/rank` answered it."""


class ItemEvent(_Body):
    """A new version of an item."""

    event: Literal["item"]
    id: Id | None = None
    item: Id
    timestamp: Instant = None
    fields: list[Pair]


class RankingEvent(_Body):
    """An impression: items in the order shown."""

    event: Literal["ranking"]
    id: Id
    user: Id
    session: Id | None = None
    timestamp: Instant = None
    fields: list[Pair] = []
    items: list[Listed] = Field(min_length=1, max_length=MOST_CANDIDATES)

    @model_validator(mode="after")
    def _each_once(self) -> "RankingEvent":
        _once([item.id for item in self.items])
        return self


class InteractionEvent(_Body):
    """An interaction of a user with an item."""

    event: Literal["interaction"]
    id: Id | None = None
    """A repeated id counts once: if no answer arrived, send the event again with the same id."""
    user: Id
    item: Id
    type: Id
    ranking: Id | None = None
    """Id of the impression."""
    session: Id | None = None
    timestamp: Instant = None
    known_at: Instant = None
    value: float | None = None
    fields: list[Pair] = []


Event = Annotated[ItemEvent | RankingEvent | InteractionEvent, Field(discriminator="event")]
Events = Annotated[
    list[Event],
    BeforeValidator(lambda body: [body] if isinstance(body, dict) else body),
    Field(min_length=1, max_length=MOST_EVENTS),
]
"""One event, or a list of them."""
