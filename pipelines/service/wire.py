"""What requests and events look like on the wire; events are those of `features/sources/jsonl_events.py`."""

from datetime import datetime
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from features.config.slices import microseconds
from features.sources.instants import read_instants

MOST_CANDIDATES = 1_000
MOST_EVENTS = 1_000
Id = Annotated[str, Field(min_length=1, max_length=512)]


def _is_instant(value: str | int | float | None) -> str | int | float | None:
    if value is not None and read_instants(pl.Series([value]))[0] is None:
        raise ValueError("is no instant: write for example 2026-01-05T00:00:00Z, or epoch milliseconds")
    return value


Instant = Annotated[str | int | float | None, AfterValidator(_is_instant)]


def instant_of(value: str | int | float | None) -> int | None:
    """Microseconds of a validated instant."""
    if value is None:
        return None
    found = read_instants(pl.Series([value]))[0]
    return microseconds(found) if isinstance(found, datetime) else None


def _once(items: list[str]) -> list[str]:
    if len(set(items)) < len(items):
        raise ValueError("names an item twice: name each once")
    return items


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RankRequest(_Body):
    """A list to be ordered for a user."""

    user_id: Id
    candidates: (
        Annotated[list[Id], Field(min_length=1, max_length=MOST_CANDIDATES), AfterValidator(_once)] | None
    ) = None
    """Item ids; without them they are drawn from the pool."""
    k: int | None = Field(None, ge=1, le=MOST_CANDIDATES)
    """Length of the answer; by default all candidates, or `lists.k` of the pool's."""
    query: str | None = Field(None, max_length=2_000)
    """What the user typed: near items join the pool."""
    session_id: Id | None = None
    context: dict[str, str | list[str]] = {}
    """Declared facts of the occasion."""
    at: Instant = None
    """Instant of the list; by default now. Not before the newest event."""
    muted: list[Id] = Field([], max_length=MOST_CANDIDATES)
    """Items that this user must not be shown."""
    explain: bool = False
    """Add a sentence of reasons to each item."""
    features: bool = False
    """Add the columns that the ranker read."""


class Pair(_Body):
    """A named value of an item or of an occasion."""

    name: Id
    value: Any = None


class Listed(_Body):
    """An item of an impression."""

    id: Id


class ItemEvent(_Body):
    """An item as it reads from now on."""

    event: Literal["item"]
    id: Id | None = None
    item: Id
    timestamp: Instant = None
    fields: list[Pair]


class RankingEvent(_Body):
    """An impression: what was shown, in this order."""

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
    """What a user did with an item."""

    event: Literal["interaction"]
    id: Id | None = None
    """A repeated id is one fact: send the same id again where an answer was lost."""
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
