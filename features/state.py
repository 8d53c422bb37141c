"""The moment state: all that is remembered at an instant, advanced slice by slice.

It holds decayed counters (of everything, items, attribute values, users, user × attribute value and
user × item), the latest version of each item, the lists not yet left, and each user's recent moments.
Batch, daily slice and live request all go through `advance` and the readers of `behaviour.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from features.decay import Counter
from features.decay import advance as advance_counter
from features.point_in_time import known_before
from features.project import Project
from features.schemas import Items, Moments

PASSED = "passed"
"""Action of a moment in which an item was shown and not taken when its list was left."""

GRAINS: Mapping[str, tuple[str, ...]] = {
    "everything": ("everything",),
    "item": ("item_id",),
    "attribute": ("attribute", "value"),
    "user": ("user_id",),
    "user_attribute": ("user_id", "attribute", "value"),
    "user_item": ("user_id", "item_id"),
}
"""Keys of each grain that is counted."""

_OPEN: dict[str, pl.DataType | type[pl.DataType]] = {
    "impression_id": pl.String,
    "user_id": pl.String,
    "item_id": pl.String,
    "position": pl.Int32,
    "shown_at": pl.Datetime("us", "UTC"),
}
_KEYS: dict[str, type[pl.DataType]] = {name: pl.String for keys in GRAINS.values() for name in keys}


@dataclass(frozen=True)
class MomentState:
    """Everything known strictly before `at`."""

    at: datetime
    items: pl.DataFrame
    """Latest version of each item (`schemas.Items`)."""
    totals: Mapping[str, pl.DataFrame]
    """Per grain: keys, counters as of `at`, `last_at`."""
    open: pl.DataFrame
    """Candidates of lists not yet left, nor taken."""
    moments: pl.DataFrame
    """Each user's latest moments (`schemas.Moments`), in order."""

    def tables(self) -> dict[str, pl.DataFrame]:
        """The state as tables, by name; `restore` takes them back."""
        return {**self.totals, "items": self.items, "open": self.open, "moments": self.moments}


@dataclass(frozen=True)
class SliceEvents:
    """The events of one stretch of time: items, impressions and interactions of `features/schemas.py`."""

    items: pl.DataFrame
    impressions: pl.DataFrame
    interactions: pl.DataFrame


def counters(project: Project) -> dict[str, Counter]:
    """The counters of each grain. `clicks` counts the kind `click`, or else the first declared kind."""
    half_lives = tuple((name, project.features.seconds(name)) for name in project.features.half_lives)
    kinds = tuple(kinds_counted(project).values())
    shared = {
        "everything": kinds[:1],
        "attribute": kinds[:1],
        "user_attribute": kinds[:1],
        "user_item": kinds[:1],
    }
    return {
        # Of one person and one item, that it happened matters more than when: no decay.
        grain: Counter(
            keys,
            ("exposures", *shared.get(grain, kinds)),
            (("none", None),) if grain == "user_item" else half_lives,
        )
        for grain, keys in GRAINS.items()
    }


def kinds_counted(project: Project) -> dict[str, str]:
    """Interaction kind → name of its quantity. The first is the click: `click`, else the first declared kind."""
    first = "click" if "click" in project.labels.gains else next(iter(project.labels.gains))
    return {first: "clicks"} | {kind: f"{kind}s" for kind in project.labels.gains if kind != first}


def start(project: Project) -> MomentState:
    """The state before anything happened."""
    keys = pl.DataFrame(schema=_KEYS)
    return MomentState(
        at=project.slices.start,
        items=Items.create_empty(),
        totals={grain: counter.empty(keys) for grain, counter in counters(project).items()},
        open=pl.DataFrame(schema=_OPEN),
        moments=Moments.create_empty(),
    )


def restore(at: datetime, tables: Mapping[str, pl.DataFrame]) -> MomentState:
    """The state from its tables, as `MomentState.tables` gave them."""
    totals = {grain: tables[grain] for grain in GRAINS}
    return MomentState(at, tables["items"], totals, tables["open"], tables["moments"])


def advance(state: MomentState, events: SliceEvents, until: datetime, project: Project) -> MomentState:
    """The state at `until`, given the events known in [state.at, until)."""
    facts = count(state, events, project)
    left = leave(state, events, project)
    moments = stream(state, left, events, project).filter(pl.col("known_at") < until)
    return MomentState(
        at=until,
        items=versions(state, events).unique("item_id", keep="last", maintain_order=True).sort("item_id"),
        totals={
            grain: advance_counter(state.totals[grain], facts[grain], counter, state.at, until)
            for grain, counter in counters(project).items()
        },
        open=_still_open(left, events, until),
        moments=_remembered(moments, project),
    )


def versions(state: MomentState, events: SliceEvents) -> pl.DataFrame:
    """Every item version that may be visible during the slice, sorted by (item_id, known_at)."""
    columns = list(Items.column_names())
    return pl.concat([state.items.select(columns), events.items.select(columns)]).sort("item_id", "known_at")


def see(rows: pl.DataFrame, versions: pl.DataFrame, at: str) -> pl.DataFrame:
    """Adds `version`, the row number in `versions` of the item version known strictly before column `at`."""
    numbered = versions.select("item_id", "known_at").with_row_index("version")
    return known_before(rows, numbered, at, "known_at", by="item_id").drop("known_at", strict=False)


def attribute_values(versions: pl.DataFrame) -> pl.DataFrame:
    """`version, attribute, value`: one row per distinct value of an item version."""
    return (
        versions.with_row_index("version")
        .select("version", "attributes")
        .explode("attributes", empty_as_null=False, keep_nulls=False)
        .select(
            "version",
            attribute=pl.col("attributes").struct.field("name"),
            value=pl.col("attributes").struct.field("value"),
        )
        .unique(maintain_order=True)
    )


def exposed(impressions: pl.DataFrame) -> pl.DataFrame:
    """One row per (impression, candidate): `impression_id, user_id, item_id, position, shown_at`."""
    return impressions.explode("candidates", empty_as_null=False).select(
        "impression_id",
        "user_id",
        item_id=pl.col("candidates").struct.field("item_id"),
        position=pl.col("candidates").struct.field("position"),
        shown_at=pl.col("shown_at"),
    )


def count(state: MomentState, events: SliceEvents, project: Project) -> dict[str, pl.DataFrame]:
    """What the slice adds to each grain's counters: keys, `at`, one column a quantity."""
    kinds = kinds_counted(project)
    quantities = ("exposures", *kinds.values())
    shown = exposed(events.impressions).select(
        "user_id", "item_id", at="shown_at", quantity=pl.lit("exposures")
    )
    done = events.interactions.filter(pl.col("kind").is_in(list(kinds))).select(
        "user_id", "item_id", at="known_at", quantity=pl.col("kind").replace(kinds)
    )
    facts = (
        pl.concat([shown, done])
        .select(
            "user_id",
            "item_id",
            "at",
            *((pl.col("quantity") == q).cast(pl.Float64).alias(q) for q in quantities),
            everything=pl.lit(""),
        )
        .sort("at", "user_id", "item_id", *quantities)
    )
    seen = versions(state, events)
    valued = see(facts, seen, "at").join(attribute_values(seen), on="version")
    return {
        grain: (valued if "attribute" in keys else facts).select(*keys, "at", *quantities)
        for grain, keys in GRAINS.items()
    }


def leave(state: MomentState, events: SliceEvents, project: Project) -> pl.DataFrame:
    """Open candidates with `left_at`: when the user asked for the next list, or the attribution window ended.

    That an item was passed over is known just before the next list is shown, so that this list may use it.
    """
    impressions = events.impressions.select("user_id", next_at="shown_at").sort("next_at")
    opened = exposed(events.impressions).filter(pl.col("position") <= project.features.passed_per_list)
    return (
        pl.concat([state.open, opened])
        .sort("shown_at", "impression_id", "position")
        .join_asof(
            impressions,
            left_on="shown_at",
            right_on="next_at",
            by="user_id",
            strategy="forward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .with_columns(
            left_at=pl.min_horizontal(
                pl.col("next_at") - timedelta(microseconds=1), pl.col("shown_at") + project.labels.attribution
            )
        )
        .drop("next_at")
    )


def stream(state: MomentState, left: pl.DataFrame, events: SliceEvents, project: Project) -> pl.DataFrame:
    """`schemas.Moments` of every user, remembered and new, sorted by user, then by time, item and action."""
    done = events.interactions.filter(pl.col("kind").is_in(list(project.labels.gains))).select(
        "user_id", "item_id", action="kind", known_at="known_at"
    )
    passed = _not_taken(left, events.interactions, pl.col("left_at")).select(
        "user_id", "item_id", action=pl.lit(PASSED), known_at="left_at"
    )
    return pl.concat([state.moments, done, passed]).sort("user_id", "known_at", "item_id", "action")


def _not_taken(rows: pl.DataFrame, interactions: pl.DataFrame, by: pl.Expr) -> pl.DataFrame:
    taken = (
        rows.join(interactions.select("user_id", "item_id", "known_at"), on=["user_id", "item_id"])
        .filter(pl.col("known_at").is_between(pl.col("shown_at"), by))
        .select("impression_id", "item_id")
        .unique()
    )
    return rows.join(taken, on=["impression_id", "item_id"], how="anti", maintain_order="left")


def _still_open(left: pl.DataFrame, events: SliceEvents, until: datetime) -> pl.DataFrame:
    staying = left.filter(pl.col("left_at") >= until)
    return _not_taken(staying, events.interactions, pl.lit(until)).select(*_OPEN)


def _remembered(moments: pl.DataFrame, project: Project) -> pl.DataFrame:
    # Clicks are rarer than passes and must not be crowded out: each has its own allowance.
    newest = pl.int_range(pl.len()).reverse()
    return moments.filter(
        (newest.over("user_id") < project.features.remembered)
        | (newest.over("user_id", pl.col("action") == PASSED) < project.features.recent)
    )
