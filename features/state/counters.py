"""The counters, declared: their keys, quantities, half-lives and TTL."""

from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from features.config.sections import BehaviourConfig

INSTANTS = ("last_at", "clicked_at")
"""Columns after the numbers: an entry's last update and last click."""
FIRST_RATE = 0.05
"""Prior of the click rate at a position, with the weight of `prior_strength` exposures."""
LISTWISE = ("everything", "user", "taste")
"""Grains with the same numbers for all candidates of an impression."""


@dataclass(frozen=True)
class Counter:
    """The `quantities` counted per key, each with every half-life.

    `half_lives`: (name, seconds), None for no decay. `ttl`: an entry without an update for longer expires.
    """

    keys: tuple[str, ...]
    quantities: tuple[str, ...]
    half_lives: tuple[tuple[str, float | None], ...]
    ttl: timedelta | None = None

    @property
    def columns(self) -> list[str]:
        """Columns of the numbers: `clicks_1d`, `clicks_all`…"""
        return [column(quantity, name) for quantity in self.quantities for name, _ in self.half_lives]


def column(quantity: str, half_life: str) -> str:
    """Column of a quantity and half-life; the half-life `none` is written `all`."""
    return f"{quantity}_{'all' if half_life == 'none' else half_life}"


def counters(config: BehaviourConfig) -> dict[str, Counter]:
    """The counters, by grain.

    `clicks` counts the kind `click`, or else the first declared kind. `expected` sums the clicks of an average item at
    the positions shown, `depth` these positions. `{number}_known` counts clicked items with a declared number,
    `{number}_sum` sums the numbers. `spread` is Σ n·ln n over the clicks n on each value.
    """
    declared = config.features
    decaying = tuple((name, declared.seconds(name)) for name in declared.half_lives)
    undecayed = (("none", None),)
    kinds = tuple(kinds_counted(config).values())
    values = tuple(f"{kinds_counted(config)[kind]}_value" for kind in declared.valued)
    every, basic = ("exposures", *kinds, *values), ("exposures", "clicks")
    numbers = tuple(f"{name}_{part}" for name in config.items.numeric for part in ("known", "sum"))
    ttl = declared.ttl
    declared_counters = {
        "everything": Counter(("everything",), (*every, *numbers), decaying),
        "position": Counter(("position",), basic, undecayed),
        "item": Counter(("item_id",), (*every, "expected", "depth"), decaying, ttl),
        "attribute": Counter(("attribute", "value"), (*basic, "expected"), decaying, ttl),
        "user": Counter(("user_id",), (*every, "expected", *numbers), decaying, ttl),
        "user_attribute": Counter(("user_id", "attribute", "value"), basic, decaying, ttl),
        "taste": Counter(("user_id", "attribute"), ("clicks", "spread"), undecayed, ttl),
        # For one user and one item, whether something happened matters more than when: no decay.
        "user_item": Counter(("user_id", "item_id"), ("exposures", *kinds), undecayed, ttl),
    }
    if config.context.categorical:
        declared_counters["context"] = Counter(("context", "value"), basic, decaying, ttl)
        declared_counters["item_context"] = Counter(("item_id", "context", "value"), basic, decaying, ttl)
    return declared_counters


def parts(counter: Counter, config: BehaviourConfig) -> tuple[str, ...]:
    """The item attributes or context fields that a counter has a table for; `("",)` for a single table."""
    if "attribute" in counter.keys:
        return config.items.categorical
    return config.context.categorical if "context" in counter.keys else ("",)


def is_global(counter: Counter) -> bool:
    """Whether all users update the same entries; otherwise each entry belongs to one user."""
    return "user_id" not in counter.keys


def kinds_counted(config: BehaviourConfig) -> dict[str, str]:
    """Interaction kind → its quantity. The first is the click: `click`, or else the first declared kind."""
    gains = config.labels.gains
    first = "click" if "click" in gains else next(iter(gains))
    others = dict.fromkeys([*gains, *config.features.valued])
    return {first: "clicks"} | {kind: f"{kind}s" for kind in others if kind != first}


class Read(NamedTuple):
    """A number to look up: grain, part and column."""

    grain: str
    part: str
    name: str


SESSION_READS = (Read("user", "", "exposures_all"), Read("user", "", "clicks_all"))
"""The user's counts that a session stores at its start; always looked up."""
SESSION = tuple(Read("session", "", name) for name in ("began_at", "lists", "exposures", "clicks"))
