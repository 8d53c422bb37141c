"""A ranked list for a user at an instant: the same state, features and models that built the training data."""

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

ABOUT = (
    "rank", "title", "position", "clicked", "rank_score", "click_probability", "reasons", "because", "strongest",
    "start",
)  # fmt: skip
"""Columns of an explained list that are no family of features."""


def serving_until(deployment: Deployment, slice: str) -> Version | None:
    """What serves; for a slice before those that the champion was fitted on, the newest ranker up to it."""
    serving = deployment.serving(slice)
    if serving is None or serving.slice <= slice:
        return serving
    _, end = deployment.project.slices.window(slice)
    return deployment.latest("ranker", before=deployment.project.slices.key(end))


def state_at(deployment: Deployment, at: datetime | None) -> MomentState:
    """The moment state at an instant (the newest slice's end where none is given), from the lake's tables."""
    project = deployment.project
    kept = deployment.lake.slices(f"{STATE}/items")
    reached = [key for key in kept if at is None or project.slices.window(key)[1] <= at]
    if not reached:
        raise TableError(
            f"no moment state is kept {'yet' if at is None else f'before {at}'}: "
            f"momentrank run makes one a slice"
        )
    state = deployment.state_after(reached[-1])
    if at is None or at == state.at:
        return state
    following = [
        key for key in deployment.lake.slices("items") if reached[-1] < key <= project.slices.key(at)
    ]
    for key in following:
        end = min(at, project.slices.window(key)[1])
        state = advance(state, _known_before(deployment.events(key), end), end, project)
    return state


def active_users(lake: Lake, slice: str, at_most: int) -> list[str]:
    """Who was shown the most lists in a slice, most first; of as many, by id."""
    users = lake.read("impressions", [slice], ["user_id"])["user_id"].value_counts()
    return users.sort("count", "user_id", descending=[True, False])["user_id"].head(at_most).to_list()


def met(lake: Lake, user: str) -> bool:
    """Whether a user, by their id as the tables have it, was shown or did anything so far."""
    tables = (table for table in ("impressions", "interactions") if lake.slices(table))
    return any(lake.scan(table).filter(user_id=user).head(1).collect().height for table in tables)


def rank(
    deployment: Deployment, users: Sequence[str], at: datetime | None, k: int, ranker: Ranker
) -> pl.DataFrame:
    """`schemas.RankedLists`: the top `k` of a pool of candidates for each user, with reasons."""
    told, _ = _request(deployment, users, at, k, ranker)
    return RankedLists.validate(told.select(RankedLists.column_names()))


def explain_user(
    deployment: Deployment, user: str, at: datetime | None, k: int, ranker: Ranker
) -> pl.DataFrame:
    """What a user would be shown at an instant, as `explain` tells of a past list; nothing was taken yet.

    Raises TableError where there is nothing to show.
    """
    told, contributions = _request(deployment, [user], at, k, ranker)
    if told.is_empty():
        raise TableError(f"there is no item that {user!r} could be shown: every known one was taken")
    unknown = told.with_columns(position=pl.lit(None, pl.Int32), clicked=pl.lit(None, pl.Boolean))
    return _in_detail(unknown, contributions, deployment.project)


def explain(deployment: Deployment, impression_id: str, ranker: Ranker) -> pl.DataFrame:
    """A past list as a ranker orders it: `ABOUT`, then a column a family; with `start` these sum to `rank_score`.

    `strongest` are the three features that moved the score most, `because` the past behind the interest score,
    `reasons` one sentence. Raises TableError for an unknown impression.
    """
    shown = deployment.lake.scan("ranking_dataset").filter(impression_id=impression_id).collect()
    if shown.is_empty():
        raise TableError(
            f"no impression {impression_id!r} in ranking_dataset: look its id up in table impressions"
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
    told, contributions = _told(listed, past, items, ranker, deployment.project)
    return _in_detail(told, contributions, deployment.project)


def _request(
    deployment: Deployment, users: Sequence[str], at: datetime | None, k: int, ranker: Ranker
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The top `k` for each user as `_told` tells of them, and their contributions."""
    project = deployment.project
    state = state_at(deployment, at)
    last = project.slices.key(state.at - project.slices.every / 2)
    vectors = deployment.vectors(last)
    requests = draw(state, users, vectors, project, state.at)
    nothing = Interactions.create_empty()
    events = SliceEvents(Items.create_empty(), requests, nothing)
    model = deployment.latest("interest", before=project.slices.key(state.at))
    dataset = assemble(
        attribute(requests, nothing, project.labels),
        read_features(state, events, project, vectors),
        deployment.interest_scores(state, events, model),
    )
    listed = _ordered(dataset, k, ranker)
    shown = SliceEvents(events.items, _only(requests, listed), nothing)
    past = _past(deployment, state, shown, model, state.items)
    return _told(listed, past, state.items, ranker, project)


def _ordered(dataset: pl.DataFrame, k: int, ranker: Ranker) -> pl.DataFrame:
    """The first `k` of each list, with `rank_score`, `click_probability` and the number of `candidates`."""
    scored = dataset.with_columns(ranker.score(dataset), candidates=pl.len().over("impression_id"))
    likely = (
        ranker.probability(scored["rank_score"])
        if ranker.calibration
        else pl.lit(None, pl.Float64).alias("click_probability")
    )
    return top(scored.with_columns(likely), k, score="rank_score")


def _told(
    listed: pl.DataFrame, past: pl.DataFrame, items: pl.DataFrame, ranker: Ranker, project: Project
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Adds `title`, `past` and `reasons` to ranked rows; beside them the contributions, row for row."""
    titles = items.select("item_id", "title", "attributes")
    told = listed.join(past, on=KEYS, how="left", maintain_order="left").join(
        titles, on="item_id", how="left", maintain_order="left"
    )
    contributions = ranker.contributions(listed)
    return told.with_columns(
        pl.col("title").fill_null("(unknown item)"), sentences(told, contributions, catalogue(project))
    ), contributions


def _in_detail(told: pl.DataFrame, contributions: pl.DataFrame, project: Project) -> pl.DataFrame:
    because = [because_of(past) for past in told["past"].to_list()]
    rows = told.with_columns(
        strongest(contributions, told),
        because=pl.Series(because, dtype=pl.String),
        start=contributions[BIAS],
    )
    return pl.concat([rows.select(ABOUT), by_family(contributions, catalogue(project))], how="horizontal")


def _only(requests: pl.DataFrame, listed: pl.DataFrame) -> pl.DataFrame:
    """The requests with those of their candidates that are listed."""
    kept = listed.group_by("impression_id").agg(candidates=pl.struct("item_id", "position"))
    return requests.drop("candidates").join(kept, on="impression_id", maintain_order="left")


def _past(
    deployment: Deployment,
    state: MomentState,
    events: SliceEvents,
    model: Version | None,
    items: pl.DataFrame,
) -> pl.DataFrame:
    """`explanation.past_behind` each candidate of the impressions in `events`; `items` has titles."""
    given = interest_input(state, events, deployment.project)
    folder = deployment.registry.interest_folder(model.version) if model else None
    return past_behind(given, folder, items, deployment.settings.cache)


def _known_before(events: SliceEvents, end: datetime) -> SliceEvents:
    return SliceEvents(
        items=events.items.filter(pl.col("known_at") < end),
        impressions=events.impressions.filter(pl.col("shown_at") < end),
        interactions=events.interactions.filter(pl.col("known_at") < end),
    )


def _of_user(events: SliceEvents, user: str, until: datetime) -> SliceEvents:
    """What the slice shows of one user up to a list of theirs, and what was said of items."""
    return SliceEvents(
        items=events.items,
        impressions=events.impressions.filter(pl.col("user_id") == user, pl.col("shown_at") <= until),
        interactions=events.interactions.filter(pl.col("user_id") == user, pl.col("known_at") < until),
    )
