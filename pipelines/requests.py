"""Rank items for a user at an instant, with the state, features and models that built the training data."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import polars as pl

from features.behaviour import read_features
from features.catalogue import catalogue
from features.config.slices import Slices
from features.errors import TableError
from features.events.labels import attribute
from features.ranking_dataset import KEYS, assemble
from features.schemas import Interactions, Items, RankedLists
from features.state import MomentState, SliceEvents
from models.candidate_pool import draw
from models.explanation.contributions import BIAS, by_family, past_behind, strongest
from models.explanation.sentences import because_of, sentences
from models.interest_input import interest_input, interest_scores
from models.ranker import Ranker
from models.ranking import top
from models.registry.registry import Registry
from models.registry.versions import Version
from pipelines.lake import Lake
from pipelines.slice_tables import SliceTables

EXPLANATION_COLUMNS = (
    "rank", "title", "position", "clicked", "rank_score", "click_probability", "reasons", "because", "strongest",
    "start",
)  # fmt: skip
"""Columns of an explained list; every other column is a feature family."""


def serving_until(registry: Registry, slices: Slices, slice: str) -> Version | None:
    """The serving ranker, or, if it was fitted on slices after this one, the newest ranker up to this slice."""
    following = slices.following(slice)
    serving = registry.serving(following)
    return serving if serving is None or serving.slice <= slice else registry.latest("ranker", following)


def active_users(lake: Lake, slice: str, at_most: int) -> list[str]:
    """Ids of the users with the most impressions in a slice, most first; ties by id."""
    users = lake.read("impressions", [slice], ["user_id"])["user_id"].value_counts()
    return users.sort("count", "user_id", descending=[True, False])["user_id"].head(at_most).to_list()


def is_known_user(lake: Lake, user: str) -> bool:
    """Whether a user (id as stored in the tables) has any impression or interaction."""
    tables = (table for table in ("impressions", "interactions") if lake.slices(table))
    return any(lake.scan(table).filter(user_id=user).head(1).collect().height for table in tables)


@dataclass(frozen=True)
class Requests:
    """Ranks and explains on request, from stored slices."""

    slices: SliceTables
    registry: Registry
    cache: Path
    """Folder of cached text vectors."""

    def rank(self, users: Sequence[str], at: datetime | None, k: int, ranker: Ranker) -> pl.DataFrame:
        """The top `k` candidates for each user, with reasons, as `schemas.RankedLists`."""
        rows, _ = self._rank_pool(users, at, k, ranker)
        return RankedLists.validate(rows.select(RankedLists.column_names()))

    def explain_user(self, user: str, at: datetime | None, k: int, ranker: Ranker) -> pl.DataFrame:
        """The top `k` candidates for a user at an instant, in the columns of `explain`.

        `position` and `clicked` are null. Raises TableError if no candidate is left.
        """
        rows, contributions = self._rank_pool([user], at, k, ranker)
        if rows.is_empty():
            raise TableError(f"no candidates are left for {user!r}: they clicked every known item")
        rows = rows.with_columns(position=pl.lit(None, pl.Int32), clicked=pl.lit(None, pl.Boolean))
        return _explained(rows, contributions, self._families)

    def explain(self, impression_id: str, ranker: Ranker) -> pl.DataFrame:
        """A past impression as a ranker orders it: columns `EXPLANATION_COLUMNS`, then one per feature family.

        `start` and the families sum to `rank_score`. `strongest` has the three features that moved the score most,
        `because` the earlier clicks behind the interest score, `reasons` one sentence. Raises TableError for an unknown
        impression.
        """
        shown = self.slices.lake.scan("ranking_dataset").filter(impression_id=impression_id).collect()
        if shown.is_empty():
            raise TableError(
                f"ranking_dataset has no impression {impression_id!r}: take an id from the table impressions"
            )
        listed = _ordered(shown, shown.height, ranker)
        first = listed.row(0, named=True)
        slice, items = first["slice"], self.slices.state_after(first["slice"]).items
        events = _of_user(self.slices.events(slice), first["user_id"], first["as_of"])
        past = self._past(
            self.slices.state_before(slice), events, self.registry.latest("interest", slice), items
        )
        rows, contributions = _with_reasons(listed, past, items, ranker, self._families)
        return _explained(rows, contributions, self._families)

    @cached_property
    def _families(self) -> pl.DataFrame:
        return catalogue(self.slices.project.behaviour)

    def _rank_pool(
        self, users: Sequence[str], at: datetime | None, k: int, ranker: Ranker
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The top `k` of each user's candidate pool, and the contributions, as `_with_reasons` returns them."""
        project = self.slices.project
        state = self.slices.state_at(at)
        vectors = self.slices.vectors(project.slices.key(state.at - project.slices.every / 2))
        requests = draw(state, users, vectors, project.lists.pool, state.at)
        no_interactions = Interactions.create_empty()
        events = SliceEvents(Items.create_empty(), requests, no_interactions)
        model = self.registry.latest("interest", before=project.slices.key(state.at))
        folder, fitted_on = self.model(model)
        dataset = assemble(
            attribute(requests, no_interactions, project.labels),
            read_features(state, events, vectors),
            interest_scores(interest_input(state, events), folder, fitted_on, self.cache),
        )
        listed = _ordered(dataset, k, ranker)
        candidates = listed.group_by("impression_id").agg(candidates=pl.struct("item_id", "position"))
        requests = requests.drop("candidates").join(candidates, on="impression_id", maintain_order="left")
        events = SliceEvents(events.items, requests, no_interactions)
        past = self._past(state, events, model, state.items)
        return _with_reasons(listed, past, state.items, ranker, self._families)

    def _past(
        self, state: MomentState, events: SliceEvents, model: Version | None, items: pl.DataFrame
    ) -> pl.DataFrame:
        """`explanation.past_behind` for each candidate of the impressions in `events`; `items` has the titles."""
        inputs = interest_input(state, events)
        return past_behind(inputs, self.model(model)[0], items, self.cache)

    def model(self, model: Version | None) -> tuple[Path | None, str | None]:
        """Folder of a version of the interest model, and the last slice that it was fitted on."""
        return (self.registry.interest_folder(model.version), model.slice) if model else (None, None)


def _ordered(dataset: pl.DataFrame, k: int, ranker: Ranker) -> pl.DataFrame:
    """The top `k` of each impression, with `rank_score`, `click_probability` and the number of `candidates`."""
    scored = dataset.with_columns(ranker.score(dataset), candidates=pl.len().over("impression_id"))
    probability = (
        ranker.probability(scored["rank_score"])
        if ranker.calibration
        else pl.lit(None, pl.Float64).alias("click_probability")
    )
    return top(scored.with_columns(probability), k, score="rank_score")


def _with_reasons(
    listed: pl.DataFrame, past: pl.DataFrame, items: pl.DataFrame, ranker: Ranker, families: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ranked rows with `title`, `past` and `reasons`, and the contributions, row for row."""
    titles = items.select("item_id", "title", "attributes")
    rows = listed.join(past, on=KEYS, how="left", maintain_order="left").join(
        titles, on="item_id", how="left", maintain_order="left"
    )
    contributions = ranker.contributions(listed)
    return rows.with_columns(
        pl.col("title").fill_null("(unknown item)"), sentences(rows, contributions, families)
    ), contributions


def _explained(rows: pl.DataFrame, contributions: pl.DataFrame, families: pl.DataFrame) -> pl.DataFrame:
    """The columns `EXPLANATION_COLUMNS`, then the contribution of each feature family."""
    because = [because_of(past) for past in rows["past"].to_list()]
    rows = rows.with_columns(
        strongest(contributions, rows),
        because=pl.Series(because, dtype=pl.String),
        start=contributions[BIAS],
    )
    return pl.concat([rows.select(EXPLANATION_COLUMNS), by_family(contributions, families)], how="horizontal")


def _of_user(events: SliceEvents, user: str, until: datetime) -> SliceEvents:
    """One user's impressions up to an instant and interactions before it, with all item versions of the slice."""
    return SliceEvents(
        items=events.items,
        impressions=events.impressions.filter(pl.col("user_id") == user, pl.col("shown_at") <= until),
        interactions=events.interactions.filter(pl.col("user_id") == user, pl.col("known_at") < until),
    )
