"""The moment state: all that is remembered at an instant. `advance.py` moves it on, `behaviour.py` reads it.

It holds decayed counters of each grain, the latest version of each item, the lists that may still be answered,
each user's running sessions and recent moments. Batch, daily slice and live request all go through it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from features.counter import Counter
from features.project import Project
from features.schemas import Items, Moments

_INSTANT = pl.Datetime("us", "UTC")
_CONTEXT = pl.List(pl.Struct({"name": pl.String, "value": pl.String}))
_Columns = dict[str, pl.DataType | type[pl.DataType]]
_OPEN: _Columns = {
    "impression_id": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "position": pl.Int32,
    "shown_at": _INSTANT,
}
_SHOWN: _Columns = {
    "user_id": pl.String,
    "item_id": pl.String,
    "position": pl.Int32,
    "context": _CONTEXT,
    "shown_at": _INSTANT,
}
_SESSIONS: _Columns = {
    "user_id": pl.String,
    "session_id": pl.String,
    "began_at": _INSTANT,
    "shown_at": _INSTANT,
    "lists": pl.Int64,
    "exposures": pl.Float64,
    "clicks": pl.Float64,
}
_KEYS: _Columns = {"position": pl.Int32}


@dataclass(frozen=True)
class MomentState:
    """Everything known strictly before `at`."""

    at: datetime
    totals: Mapping[str, pl.DataFrame]
    """Per grain: keys, counters as of `at`, when it was last met and clicked."""
    items: pl.DataFrame
    """Latest version of each item (`schemas.Items`)."""
    open: pl.DataFrame
    """Candidates of lists not yet left, nor taken."""
    shown: pl.DataFrame
    """Candidates shown so lately that a click on them may still come: where and on what occasion."""
    sessions: pl.DataFrame
    """Sessions that may go on: when each began and was last seen, its lists, and the user's counts at its start."""
    moments: pl.DataFrame
    """Each user's latest moments (`schemas.Moments`), in order."""

    def tables(self) -> dict[str, pl.DataFrame]:
        """The state as tables, by name; `restore` takes them back."""
        return {
            **self.totals,
            "items": self.items,
            "open": self.open,
            "shown": self.shown,
            "sessions": self.sessions,
            "moments": self.moments,
        }


@dataclass(frozen=True)
class SliceEvents:
    """The events of one stretch of time: items, impressions and interactions of `features/schemas.py`."""

    items: pl.DataFrame
    impressions: pl.DataFrame
    interactions: pl.DataFrame


def counters(project: Project) -> dict[str, Counter]:
    """The counters of each grain.

    `clicks` counts the kind `click`, or else the first declared kind; `expected`, the clicks that an average item
    would have had at the positions shown (`facts.py`); `depth`, those positions; `{number}_taken`, a declared
    number of what was clicked; `spread`, Σ n·ln n over the clicks n of each value.
    """
    declared = project.features
    fading = tuple((name, declared.seconds(name)) for name in declared.half_lives)
    lasting = (("none", None),)
    kinds = tuple(kinds_counted(project).values())
    values = tuple(f"{kinds_counted(project)[kind]}_value" for kind in declared.valued)
    every, few = ("exposures", *kinds, *values), ("exposures", "clicks")
    # Of each declared number: how often it was known of what was taken, and its sum there.
    liked = tuple(f"{name}_{part}" for name in project.items.numeric for part in ("known", "taken"))
    forget = declared.forget_after
    found = {
        "everything": Counter(("everything",), (*every, *liked), fading),
        "position": Counter(("position",), few, lasting),
        "item": Counter(("item_id",), (*every, "expected", "depth"), fading, forget),
        "attribute": Counter(("attribute", "value"), (*few, "expected"), fading, forget),
        "user": Counter(("user_id",), (*every, "expected", *liked), fading, forget),
        "user_attribute": Counter(("user_id", "attribute", "value"), few, fading, forget),
        "taste": Counter(("user_id", "attribute"), ("clicks", "spread"), lasting, forget),
        # Of one person and one item, that it happened matters more than when: it does not fade.
        "user_item": Counter(("user_id", "item_id"), ("exposures", *kinds), lasting, forget),
    }
    if project.context.categorical:
        found["context"] = Counter(("context", "value"), few, fading, forget)
        found["item_context"] = Counter(("item_id", "context", "value"), few, fading, forget)
    return found


def shared(counter: Counter) -> bool:
    """Whether everybody adds to a counter's entries; else each entry is one person's."""
    return "user_id" not in counter.keys


def kinds_counted(project: Project) -> dict[str, str]:
    """Interaction kind → name of its quantity. The first is the click: `click`, else the first declared kind."""
    gains = project.labels.gains
    first = "click" if "click" in gains else next(iter(gains))
    others = dict.fromkeys([*gains, *project.features.valued])
    return {first: "clicks"} | {kind: f"{kind}s" for kind in others if kind != first}


def start(project: Project) -> MomentState:
    """The state before anything happened."""
    declared = counters(project)
    keys = pl.DataFrame(
        schema={name: _KEYS.get(name, pl.String) for counter in declared.values() for name in counter.keys}
    )
    return MomentState(
        at=project.slices.start,
        totals={grain: counter.empty(keys) for grain, counter in declared.items()},
        items=Items.create_empty(),
        open=pl.DataFrame(schema=_OPEN),
        shown=pl.DataFrame(schema=_SHOWN),
        sessions=pl.DataFrame(schema=_SESSIONS),
        moments=Moments.create_empty(),
    )


def restore(at: datetime, tables: Mapping[str, pl.DataFrame], project: Project) -> MomentState:
    """The state from its tables, as `MomentState.tables` gave them."""
    others = ("items", "open", "shown", "sessions", "moments")
    totals = {grain: tables[grain] for grain in counters(project)}
    return MomentState(at, totals, **{name: tables[name] for name in others})
