"""What is counted of each key, declared: its quantities, their half-lives, and when an entry expires."""

from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

from features.config.project import Project

INSTANTS = ("last_at", "clicked_at")
"""Kept beside the numbers: when an entry was last updated, and last clicked."""
FIRST_RATE = 0.05
"""A click rate to start from, worth `prior_strength` exposures, before anything is known."""
LISTWISE = ("everything", "user", "taste")
"""Grains that are the same for all candidates of a list."""


@dataclass(frozen=True)
class Counter:
    """What is counted per key: `quantities`, each under every half-life.

    `half_lives` maps a half-life's name to its seconds, or None for what never decays. `ttl`: an entry that nothing
    updated for longer is dropped.
    """

    keys: tuple[str, ...]
    quantities: tuple[str, ...]
    half_lives: tuple[tuple[str, float | None], ...]
    ttl: timedelta | None = None

    @property
    def columns(self) -> list[str]:
        """Names of the numbers kept: `clicks_1d`, `clicks_all`…"""
        return [column(quantity, name) for quantity in self.quantities for name, _ in self.half_lives]


def column(quantity: str, half_life: str) -> str:
    """Name of a number: the quantity and its half-life; `none` is written `all`."""
    return f"{quantity}_{'all' if half_life == 'none' else half_life}"


def counters(project: Project) -> dict[str, Counter]:
    """The counters, by grain.

    `clicks` counts the kind `click`, or else the first declared kind; `expected`, the clicks that an average item
    would have had at the positions shown; `depth`, those positions; `{number}_taken`, a declared number of what was
    clicked; `spread`, Σ n·ln n over the clicks n of each value.
    """
    declared = project.features
    decaying = tuple((name, declared.seconds(name)) for name in declared.half_lives)
    lasting = (("none", None),)
    kinds = tuple(kinds_counted(project).values())
    values = tuple(f"{kinds_counted(project)[kind]}_value" for kind in declared.valued)
    every, few = ("exposures", *kinds, *values), ("exposures", "clicks")
    # Of each declared number: how many clicked items had it, and the sum of theirs.
    liked = tuple(f"{name}_{part}" for name in project.items.numeric for part in ("known", "taken"))
    ttl = declared.ttl
    found = {
        "everything": Counter(("everything",), (*every, *liked), decaying),
        "position": Counter(("position",), few, lasting),
        "item": Counter(("item_id",), (*every, "expected", "depth"), decaying, ttl),
        "attribute": Counter(("attribute", "value"), (*few, "expected"), decaying, ttl),
        "user": Counter(("user_id",), (*every, "expected", *liked), decaying, ttl),
        "user_attribute": Counter(("user_id", "attribute", "value"), few, decaying, ttl),
        "taste": Counter(("user_id", "attribute"), ("clicks", "spread"), lasting, ttl),
        # Of one user and one item, that it happened matters more than when: it does not decay.
        "user_item": Counter(("user_id", "item_id"), ("exposures", *kinds), lasting, ttl),
    }
    if project.context.categorical:
        found["context"] = Counter(("context", "value"), few, decaying, ttl)
        found["item_context"] = Counter(("item_id", "context", "value"), few, decaying, ttl)
    return found


def parts(counter: Counter, project: Project) -> tuple[str, ...]:
    """The declared attributes or facts of the context that a counter's entries are kept apart by; `("",)` for none."""
    if "attribute" in counter.keys:
        return project.items.categorical
    return project.context.categorical if "context" in counter.keys else ("",)


def is_global(counter: Counter) -> bool:
    """Whether everybody adds to a counter's entries; else each entry is one user's."""
    return "user_id" not in counter.keys


def kinds_counted(project: Project) -> dict[str, str]:
    """Interaction kind → name of its quantity. The first is the click: `click`, else the first declared kind."""
    gains = project.labels.gains
    first = "click" if "click" in gains else next(iter(gains))
    others = dict.fromkeys([*gains, *project.features.valued])
    return {first: "clicks"} | {kind: f"{kind}s" for kind in others if kind != first}


class Read(NamedTuple):
    """A number that is looked up: of a grain and part, by its column's name."""

    grain: str
    part: str
    name: str


SESSION_READS = (Read("user", "", "exposures_all"), Read("user", "", "clicks_all"))
"""What a session remembers of its user; always looked up."""
SESSION = tuple(Read("session", "", name) for name in ("began_at", "lists", "exposures", "clicks"))
