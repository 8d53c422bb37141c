"""What a stretch of time adds to each grain's counters."""

from functools import cached_property
from typing import Literal

import polars as pl
import polars.selectors as cs

from features.decay import answer
from features.occurrences import Occurrences
from features.state import counters, kinds_counted

FIRST_RATE = 0.05
"""A click rate to start from, worth `prior_strength` exposures, before anything is known."""


class Facts(Occurrences):
    """Occurrences as counted facts."""

    @cached_property
    def expected(self) -> pl.Series:
        """The click rate that anything shown at a candidate's position had until then, one number a candidate."""
        counter = counters(self.project)["position"]
        wanted = {"exposures_all", "clicks_all"}
        before = answer(
            self.state.totals["position"],
            self.of("position"),
            counter,
            self.state.at,
            wanted,
        )
        strength = self.project.features.prior_strength
        return before.select(
            (pl.col("clicks_all") + strength * FIRST_RATE) / (pl.col("exposures_all") + strength)
        ).to_series()

    def of(self, grain: str) -> pl.DataFrame:
        """What is added to a grain's counters: its keys, `at`, a Float64 column a quantity, in order of time.

        `row` is the candidate or list that asks for the counter at its own instant; of a grain that is told apart
        by value, the place in `asking`. It is null for interactions, which ask nothing. Ids are categorical.
        """
        counter = counters(self.project)[grain]
        if grain == "position":
            told = self._positions
        elif grain == "taste":
            told = self._taste
        elif grain in ("everything", "user"):
            told = self._by_list
        elif "attribute" in counter.keys:
            told = self._by_value
        elif "context" in counter.keys:
            told = self._by_occasion
        else:
            told = self._by_item
        return told.select(*counter.keys, "at", "row", *counter.quantities)

    def asking(self, by: Literal["attribute", "context"]) -> pl.DataFrame:
        """The questions of grains told apart by value: `candidate, {by}, value`, in the order of their `row`."""
        told = self._by_value if by == "attribute" else self._by_occasion
        return told.filter(pl.col("row").is_not_null()).select("candidate", by, "value")

    @cached_property
    def _ids(self) -> pl.Categorical:
        """One dictionary for all ids and values: they are sorted and grouped many times, as integers."""
        return pl.Categorical(pl.Categories.random())

    @property
    def _positions(self) -> pl.DataFrame:
        shown = self.shown.select(
            "position",
            at="as_of",
            exposures=pl.lit(1.0),
            clicks=pl.lit(0.0),
            row=pl.int_range(pl.len()),
        )
        clicked = self.done.filter(pl.col("kind") == self._click, pl.col("position").is_not_null()).select(
            "position", at="at", exposures=pl.lit(0.0), clicks=pl.lit(1.0)
        )
        return pl.concat([shown, clicked], how="diagonal").sort("at", maintain_order=True)

    @cached_property
    def _by_item(self) -> pl.DataFrame:
        """Facts of grains that tell items apart: a row a candidate, a row an interaction."""
        shown = self.shown.select(
            pl.col("user_id", "item_id").cast(self._ids),
            "version",
            *self._context(self.shown),
            at="as_of",
            exposures=pl.lit(1.0),
            expected=self.expected,
            depth=pl.col("position").cast(pl.Float64),
            row=pl.int_range(pl.len()),
        )
        return self._with_interactions(shown)

    @cached_property
    def _by_list(self) -> pl.DataFrame:
        """Facts of grains that tell people or occasions apart: a row an impression, a row an interaction."""
        expected = self.shown.select("list", expected=self.expected).group_by("list", maintain_order=True)
        shown = self.lists.join(expected.sum(), on="list", how="left", maintain_order="left").select(
            pl.col("user_id").cast(self._ids),
            "expected",
            at="as_of",
            exposures=pl.col("size").cast(pl.Float64),
            row=pl.col("list").cast(pl.Int64),
        )
        return self._with_interactions(shown).with_columns(everything=pl.lit("").cast(self._ids))

    @cached_property
    def _by_value(self) -> pl.DataFrame:
        """`_by_item`, a row for each value of each attribute of the item."""
        values = self.values.with_columns(pl.col("attribute", "value").cast(self._ids))
        return _asking(self._by_item.join(values, on="version", maintain_order="left_right"))

    @cached_property
    def _by_occasion(self) -> pl.DataFrame:
        """`_by_item`, a row for each declared fact of the occasion."""
        told = self._by_item.explode("context", empty_as_null=False, keep_nulls=False)
        return _asking(
            told.with_columns(
                context=pl.col("context").struct.field("name").cast(self._ids),
                value=pl.col("context").struct.field("value").cast(self._ids),
            )
        )

    def _with_interactions(self, shown: pl.DataFrame) -> pl.DataFrame:
        together = pl.concat([shown, self._interacted], how="diagonal")
        return together.with_columns(cs.float().fill_null(0.0)).sort("at", maintain_order=True)

    @cached_property
    def _interacted(self) -> pl.DataFrame:
        kind, kinds = pl.col("kind"), kinds_counted(self.project)
        return self.done.select(
            pl.col("user_id", "item_id").cast(self._ids),
            "version",
            "at",
            *(["context"] if self.project.context.categorical else []),
            *((kind == name).cast(pl.Float64).alias(quantity) for name, quantity in kinds.items()),
            *self._liked,
            *(
                pl.when(kind == name).then("amount").fill_null(0.0).alias(f"{kinds[name]}_value")
                for name in self.project.features.valued
            ),
        )

    @property
    def _liked(self) -> list[pl.Series]:
        """The declared numbers of what was clicked, row for row with `done`."""
        said = self.done.select("kind", "version").join(
            self.numbers, on="version", how="left", maintain_order="left"
        )
        number = {
            name: pl.when(pl.col("kind") == self._click).then(name) for name in self.project.items.numeric
        }
        known = [
            value.is_not_null().cast(pl.Float64).alias(f"{name}_known") for name, value in number.items()
        ]
        return said.select(
            *known,
            *(value.fill_null(0.0).alias(f"{name}_taken") for name, value in number.items()),
        ).get_columns()

    @cached_property
    def _taste(self) -> pl.DataFrame:
        """Clicks on each attribute's values, and by how much they raise Σ n·ln n over the clicks n of a value.

        Whatever the user meets adds 0: tastes are forgotten with the user, and never before one of their values.
        """
        counter = counters(self.project)["user_attribute"]
        keys, took = list(counter.keys), pl.col("clicks") > 0
        told = self._by_value.with_columns(row=pl.when(took).then(took.cum_sum().cast(pl.Int64) - 1))
        clicked = told.filter(took)
        told = told.join(clicked.select(keys).unique(), on=keys, how="semi", maintain_order="left")
        totals = self.state.totals["user_attribute"]
        before = answer(totals, told, counter, self.state.at, {"clicks_all"})["clicks_all"]
        again = pl.int_range(pl.len()).over(*keys, "at")
        taken = clicked.with_columns(n=before + again).select(
            "user_id",
            "attribute",
            "at",
            clicks=pl.lit(1.0),
            spread=_spread(pl.col("n") + 1) - _spread(pl.col("n")),
        )
        met = self._by_list.select("user_id", "at")
        untaken = [
            met.select(
                "user_id",
                attribute=pl.lit(name).cast(self._ids),
                at="at",
                clicks=pl.lit(0.0),
                spread=pl.lit(0.0),
            )
            for name in self.project.items.categorical
        ]
        every = pl.concat([taken, *untaken]).sort("at", maintain_order=True)
        return every.with_columns(row=pl.lit(None, pl.Int64))

    @property
    def _click(self) -> str:
        return next(iter(kinds_counted(self.project)))

    def _context(self, rows: pl.DataFrame) -> list[pl.Series]:
        """The occasion of each row of `lists` or `shown`, where the project declares any."""
        if not self.project.context.categorical:
            return []
        return [rows.select("list").join(self.lists, on="list", how="left", maintain_order="left")["context"]]


def _asking(told: pl.DataFrame) -> pl.DataFrame:
    """Rows that ask, numbered anew; `candidate` is the number they had."""
    asks = pl.col("row").is_not_null()
    return told.with_columns(candidate="row", row=pl.when(asks).then(asks.cum_sum().cast(pl.Int64) - 1))


def _spread(n: pl.Expr) -> pl.Expr:
    return pl.when(n > 0).then(n * n.log()).otherwise(0.0)
