"""What happened in a stretch of time, laid out: what was shown, what was done, and what items said then."""

from dataclasses import dataclass
from functools import cached_property

import polars as pl

from features.moments import exposed
from features.project import Project
from features.state import MomentState, SliceEvents, kinds_counted
from features.versions import attribute_values, see, versions

DEEPEST = 100
"""Positions below are counted as this one."""


@dataclass(frozen=True)
class Occurrences:
    """Events of one stretch of time after a state; each frame is made once, when it is first asked for."""

    state: MomentState
    events: SliceEvents
    project: Project

    @cached_property
    def versions(self) -> pl.DataFrame:
        """Every item version that may be visible, sorted by (item_id, known_at)."""
        return versions(self.state.items, self.events.items)

    @cached_property
    def values(self) -> pl.DataFrame:
        """`version, attribute, value` of each of `versions`."""
        return attribute_values(self.versions)

    @cached_property
    def numbers(self) -> pl.DataFrame:
        """`version` and a column for each declared number, null where a version does not give it."""
        given = pl.element().struct.field("name")
        return self.versions.with_row_index("version").select(
            "version",
            *(
                pl.col("numbers")
                .list.eval(pl.when(given == name).then(pl.element().struct.field("value")))
                .list.drop_nulls()
                .list.first()
                .alias(name)
                for name in self.project.items.numeric
            ),
        )

    @cached_property
    def lists(self) -> pl.DataFrame:
        """The impressions, numbered: `list, impression_id, user_id, session_id, context, as_of, size`."""
        return self.events.impressions.select(
            "impression_id",
            "user_id",
            "session_id",
            "context",
            as_of="shown_at",
            size=pl.col("candidates").list.len(),
        ).with_row_index("list")

    @cached_property
    def shown(self) -> pl.DataFrame:
        """A row a candidate as shown: `list, impression_id, user_id, item_id, position, as_of, version`."""
        rows = exposed(self.events.impressions).rename({"shown_at": "as_of"})
        number = self.lists.select(pl.col("list").repeat_by("size").explode(empty_as_null=False))["list"]
        deep = pl.col("position").clip(upper_bound=DEEPEST)
        return see(rows.with_columns(deep, list=number), self.versions, "as_of")

    @cached_property
    def answerable(self) -> pl.DataFrame:
        """Candidates that a click may be an answer to, by time: those of the state, and those of this stretch."""
        # By id where instants are equal, so that the order of rows decides nothing.
        shown = (
            self.shown.sort("as_of", "impression_id")
            .join(
                self.lists.select("list", "context"),
                on="list",
                how="left",
                maintain_order="left",
            )
            .select("user_id", "item_id", "position", "context", shown_at="as_of")
        )
        return pl.concat([self.state.shown, shown])

    @cached_property
    def done(self) -> pl.DataFrame:
        """`placed` with `version`, that of the item when the interaction became known."""
        return see(self.placed, self.versions, "at")

    @cached_property
    def placed(self) -> pl.DataFrame:
        """A row an interaction: `user_id, item_id, kind, amount, at`, and where and on what occasion it was shown.

        `position` and `context` are those of the user's latest sight of the item inside the attribution window.
        """
        kinds = list(kinds_counted(self.project))
        done = self.events.interactions.filter(pl.col("kind").is_in(kinds)).select(
            "user_id", "item_id", "kind", amount="value", at="known_at"
        )
        return (
            done.with_row_index("row")
            .sort("at")
            .join_asof(
                self.answerable,
                left_on="at",
                right_on="shown_at",
                by=["user_id", "item_id"],
                tolerance=self.project.labels.attribution,
                check_sortedness=False,
            )
            .sort("row")
            .drop("row", "shown_at", strict=False)
        )
