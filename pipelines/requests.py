"""Rank items for a user at an instant, with the state, features and models that built the training data."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from features.behaviour import advance, read_features
from features.catalogue import catalogue
from features.config.project import Project
from features.errors import TableError
from features.events.labels import attribute
from features.ranking_dataset import KEYS, assemble
from features.schemas import Interactions, Items, RankedLists
from features.state import MomentState, SliceEvents
from models.candidate_pool import draw
from models.explanation.contributions import BIAS, by_family, past_behind, strongest
from models.explanation.sentences import because_of, sentences
from models.interest_input import interest_input
from models.ranker import Ranker
from models.ranking import top
from pipelines.deployment import Deployment, Version
from pipelines.lake import STATE, Lake

EXPLANATION_COLUMNS = (
    "rank", "title", "position", "clicked", "rank_score", "click_probability", "reasons", "because", "strongest",
    "start",
)  # fmt: skip
"""Columns of an explained list; every other column is a feature family."""


def serving_until(deployment: Deployment, slice: str) -> Version | None:
    """The serving ranker, or, if it was fitted on slices after this one, the newest ranker up to this slice."""
    serving = deployment.serving(slice)
    if serving is None or serving.slice <= slice:
        return serving
    _, end = deployment.project.slices.window(slice)
    return deployment.latest("ranker", before=deployment.project.slices.key(end))


def state_at(deployment: Deployment, at: datetime | None) -> MomentState:
    """The moment state at `at`, by default the end of the newest slice. Raises TableError if the lake has none."""
    project = deployment.project
    slices = deployment.lake.slices(f"{STATE}/items")
    reached = [key for key in slices if at is None or project.slices.window(key)[1] <= at]
    if not reached:
        raise TableError(
            f"there is no moment state {'yet' if at is None else f'before {at}'}: "
            f"run `momentrank run {deployment.settings.project}`, which writes one per slice"
        )
    state = deployment.state_after(reached[-1])
    if at is None or at == state.at:
        return state
    following = [
        key for key in deployment.lake.slices("items") if reached[-1] < key <= project.slices.key(at)
    ]
    for key in following:
        end = min(at, project.slices.window(key)[1])
        state = advance(state, _known_before(deployment.events(key), end), end)
    return state


def active_users(lake: Lake, slice: str, at_most: int) -> list[str]:
    """Ids of the users with the most impressions in a slice, most first; ties by id."""
    users = lake.read("impressions", [slice], ["user_id"])["user_id"].value_counts()
    return users.sort("count", "user_id", descending=[True, False])["user_id"].head(at_most).to_list()


def is_known_user(lake: Lake, user: str) -> bool:
    """Whether a user (id as stored in the tables) has any impression or interaction."""
    tables = (table for table in ("impressions", "interactions") if lake.slices(table))
    return any(lake.scan(table).filter(user_id=user).head(1).collect().height for table in tables)


def rank(
    deployment: Deployment, users: Sequence[str], at: datetime | None, k: int, ranker: Ranker
) -> pl.DataFrame:
    """The top `k` candidates for each user, with reasons, as `schemas.RankedLists`."""
    rows, _ = _rank_pool(deployment, users, at, k, ranker)
    return RankedLists.validate(rows.select(RankedLists.column_names()))


def explain_user(
    deployment: Deployment, user: str, at: datetime | None, k: int, ranker: Ranker
) -> pl.DataFrame:
    """The top `k` candidates for a user at an instant, in the columns of `explain`.

    `position` and `clicked` are null. Raises TableError if no candidate is left.
    """
    rows, contributions = _rank_pool(deployment, [user], at, k, ranker)
    if rows.is_empty():
        raise TableError(f"no candidates are left for {user!r}: they clicked every known item")
    rows = rows.with_columns(position=pl.lit(None, pl.Int32), clicked=pl.lit(None, pl.Boolean))
    return _explained(rows, contributions, deployment.project)


def explain(deployment: Deployment, impression_id: str, ranker: Ranker) -> pl.DataFrame:
    """A past impression as a ranker orders it: columns `EXPLANATION_COLUMNS`, then one column per feature family.

    `start` and the families sum to `rank_score`. `strongest` has the three features that moved the score most,
    `because` the earlier clicks behind the interest score, `reasons` one sentence. Raises TableError for an unknown
    impression.
    """
    shown = deployment.lake.scan("ranking_dataset").filter(impression_id=impression_id).collect()
    if shown.is_empty():
        raise TableError(
            f"ranking_dataset has no impression {impression_id!r}: take an id from the table impressions"
        )
    listed = _ordered(shown, shown.height, ranker)
    first = listed.row(0, named=True)
    items = deployment.state_after(first["slice"]).items
    past = _past(
        deployment,
        deployment.state_before(first["slice"]),
        _of_user(deployment.events(first["slice"]), first["user_id"], first["as_of"]),
        deployment.latest("interest", before=first["slice"]),
        items,
    )
    rows, contributions = _with_reasons(listed, past, items, ranker, deployment.project)
    return _explained(rows, contributions, deployment.project)


def _rank_pool(
    deployment: Deployment, users: Sequence[str], at: datetime | None, k: int, ranker: Ranker
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The top `k` of each user's candidate pool, and the contributions, as `_with_reasons` returns them."""
    project = deployment.project
    state = state_at(deployment, at)
    last = project.slices.key(state.at - project.slices.every / 2)
    vectors = deployment.vectors(last)
    requests = draw(state, users, vectors, project.lists.pool, state.at)
    no_interactions = Interactions.create_empty()
    events = SliceEvents(Items.create_empty(), requests, no_interactions)
    model = deployment.latest("interest", before=project.slices.key(state.at))
    dataset = assemble(
        attribute(requests, no_interactions, project.labels),
        read_features(state, events, vectors),
        deployment.interest_scores(state, events, model),
    )
    listed = _ordered(dataset, k, ranker)
    candidates = listed.group_by("impression_id").agg(candidates=pl.struct("item_id", "position"))
    requests = requests.drop("candidates").join(candidates, on="impression_id", maintain_order="left")
    events = SliceEvents(events.items, requests, no_interactions)
    past = _past(deployment, state, events, model, state.items)
    return _with_reasons(listed, past, state.items, ranker, project)


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
    listed: pl.DataFrame, past: pl.DataFrame, items: pl.DataFrame, ranker: Ranker, project: Project
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ranked rows with `title`, `past` and `reasons`, and the contributions, row for row."""
    titles = items.select("item_id", "title", "attributes")
    rows = listed.join(past, on=KEYS, how="left", maintain_order="left").join(
        titles, on="item_id", how="left", maintain_order="left"
    )
    contributions = ranker.contributions(listed)
    return rows.with_columns(
        pl.col("title").fill_null("(unknown item)"),
        sentences(rows, contributions, catalogue(project.behaviour)),
    ), contributions


def _explained(rows: pl.DataFrame, contributions: pl.DataFrame, project: Project) -> pl.DataFrame:
    """The columns `EXPLANATION_COLUMNS`, then the contribution of each feature family."""
    because = [because_of(past) for past in rows["past"].to_list()]
    rows = rows.with_columns(
        strongest(contributions, rows),
        because=pl.Series(because, dtype=pl.String),
        start=contributions[BIAS],
    )
    return pl.concat(
        [rows.select(EXPLANATION_COLUMNS), by_family(contributions, catalogue(project.behaviour))],
        how="horizontal",
    )


def _past(
    deployment: Deployment,
    state: MomentState,
    events: SliceEvents,
    model: Version | None,
    items: pl.DataFrame,
) -> pl.DataFrame:
    """`explanation.past_behind` for each candidate of the impressions in `events`; `items` has the titles."""
    inputs = interest_input(state, events)
    folder = deployment.registry.interest_folder(model.version) if model else None
    return past_behind(inputs, folder, items, deployment.settings.cache)


def _known_before(events: SliceEvents, end: datetime) -> SliceEvents:
    return SliceEvents(
        items=events.items.filter(pl.col("known_at") < end),
        impressions=events.impressions.filter(pl.col("shown_at") < end),
        interactions=events.interactions.filter(pl.col("known_at") < end),
    )


def _of_user(events: SliceEvents, user: str, until: datetime) -> SliceEvents:
    """One user's impressions up to an instant and interactions before it, with all item versions of the slice."""
    return SliceEvents(
        items=events.items,
        impressions=events.impressions.filter(pl.col("user_id") == user, pl.col("shown_at") <= until),
        interactions=events.interactions.filter(pl.col("user_id") == user, pl.col("known_at") < until),
    )
