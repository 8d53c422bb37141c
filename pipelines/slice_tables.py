"""What the lake holds of a slice: its events, the moment state around it, and the text vectors up to it."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from features.behaviour import advance
from features.config.project import Project
from features.errors import TableError
from features.ranking_dataset import labelled
from features.state import MomentState, SliceEvents, names, restore, start
from models.interest_input import with_queries
from pipelines.lake import STATE, Lake


@dataclass(frozen=True)
class SliceTables:
    """Reads a project's slices from its lake."""

    lake: Lake
    project: Project

    def events(self, slice: str, *, unlabelled: bool = False) -> SliceEvents:
        """The slice's events, by default without unlabelled impressions."""
        items, impressions, interactions = (
            self.lake.read(name, [slice]).drop("slice") for name in ("items", "impressions", "interactions")
        )
        return SliceEvents(items, impressions if unlabelled else labelled(impressions), interactions)

    def state_before(self, slice: str) -> MomentState:
        """The moment state at the slice's start."""
        previous = self.project.slices.previous(slice)
        return self.state_after(previous) if previous else self.start()

    def start(self) -> MomentState:
        """The empty moment state at the start of the first slice."""
        return start(self.project.slices.start, self.project.behaviour)

    def state_after(self, slice: str) -> MomentState:
        """The moment state at the slice's end."""
        _, end = self.project.slices.window(slice)
        config = self.project.behaviour
        tables = {name: self.lake.read(f"{STATE}/{name}", [slice]).drop("slice") for name in names(config)}
        return restore(end, tables, config)

    def state_at(self, at: datetime | None) -> MomentState:
        """The moment state at `at`, by default the end of the newest slice. Raises TableError if there is none."""
        window = self.project.slices.window
        reached = [key for key in self.lake.slices(f"{STATE}/items") if at is None or window(key)[1] <= at]
        if not reached:
            raise TableError(
                f"there is no moment state {'yet' if at is None else f'before {at}'}: `momentrank run` writes one "
                "per slice"
            )
        state = self.state_after(reached[-1])
        if at is None or at == state.at:
            return state
        for key in self.lake.slices("items"):
            if reached[-1] < key <= self.project.slices.key(at):
                end = min(at, window(key)[1])
                state = advance(state, _known_before(self.events(key), end), end)
        return state

    def vectors(self, until: str) -> pl.DataFrame:
        """Text vectors of every item version up to a slice."""
        slices = [key for key in self.lake.slices("item_vectors") if key <= until]
        return self.lake.read("item_vectors", slices).drop("slice")

    def vectors_for(
        self, state: MomentState, impressions: pl.DataFrame, until: str, cache: Path | None
    ) -> pl.DataFrame:
        """`vectors`, and those of the queries that a pass over these impressions needs."""
        return with_queries(self.vectors(until), state, impressions, self.project.interest, cache)


def _known_before(events: SliceEvents, end: datetime) -> SliceEvents:
    return SliceEvents(
        items=events.items.filter(pl.col("known_at") < end),
        impressions=events.impressions.filter(pl.col("shown_at") < end),
        interactions=events.interactions.filter(pl.col("known_at") < end),
    )
