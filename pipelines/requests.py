"""A ranked list for a user at an instant: the same state, features and models that built the training data."""

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from features.advance import advance
from features.behaviour import read_features
from features.catalogue import catalogue
from features.errors import TableError
from features.labels import attribute
from features.ranking_dataset import KEYS, assemble
from features.schemas import Interactions, Items, RankedLists
from features.state import MomentState, SliceEvents
from models.candidates import draw
from models.explanation import because, by_family, reasons
from models.interest_input import interest_input
from models.ranker import Ranker
from models.ranking import top
from pipelines.deployment import STATE, Deployment, Version


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


def rank(
    deployment: Deployment, users: Sequence[str], at: datetime | None, k: int, ranker: Ranker
) -> pl.DataFrame:
    """`schemas.RankedLists`: the top `k` of a pool of candidates for each user, with reasons."""
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
    scored = dataset.with_columns(ranker.score(dataset))
    listed = top(scored, k, score="rank_score")
    families = by_family(ranker.contributions(listed), catalogue(project))
    shown = SliceEvents(events.items, _only(requests, listed), nothing)
    past = _because(deployment, state, shown, model, state.items)
    told = listed.join(past, on=KEYS, how="left", maintain_order="left")
    return RankedLists.validate(
        told.with_columns(reasons=reasons(families, told["because"]))
        .join(state.items.select("item_id", "title"), on="item_id", how="left", maintain_order="left")
        .select(RankedLists.column_names())
    )


def _only(requests: pl.DataFrame, listed: pl.DataFrame) -> pl.DataFrame:
    """The requests with those of their candidates that are listed."""
    kept = listed.group_by("impression_id").agg(candidates=pl.struct("item_id", "position"))
    return requests.drop("candidates").join(kept, on="impression_id", maintain_order="left")


def _because(
    deployment: Deployment,
    state: MomentState,
    events: SliceEvents,
    model: Version | None,
    items: pl.DataFrame,
) -> pl.DataFrame:
    """`impression_id, item_id, because` of each candidate of the impressions in `events`; `items` has titles."""
    given = interest_input(state, events, deployment.project)
    folder = deployment.registry.interest_folder(model.version) if model else None
    return because(given, folder, items, deployment.settings.cache)


def _known_before(events: SliceEvents, end: datetime) -> SliceEvents:
    return SliceEvents(
        items=events.items.filter(pl.col("known_at") < end),
        impressions=events.impressions.filter(pl.col("shown_at") < end),
        interactions=events.interactions.filter(pl.col("known_at") < end),
    )


def explain(deployment: Deployment, impression_id: str, ranker: Ranker) -> pl.DataFrame:
    """A past list as a ranker orders it: rank, title, position, clicked, rank_score, because, a column a family."""
    listed = deployment.lake.scan("ranking_dataset").filter(impression_id=impression_id).collect()
    if listed.is_empty():
        raise TableError(
            f"no impression {impression_id!r} in ranking_dataset: look its id up in table impressions"
        )
    scored = top(listed.with_columns(ranker.score(listed)), listed.height, score="rank_score")
    first = scored.row(0, named=True)
    items = deployment.state_after(first["slice"]).items
    past = _because(
        deployment,
        deployment.state_before(first["slice"]),
        _of_user(deployment.events(first["slice"]), first["user_id"], first["as_of"]),
        deployment.latest("interest", before=first["slice"]),
        items,
    )
    told = scored.join(past, on=KEYS, how="left", maintain_order="left")
    titles = items.select("item_id", "title")
    rows = told.join(titles, on="item_id", how="left", maintain_order="left").select(
        "rank", pl.col("title").fill_null("(unknown item)"), "position", "clicked", "rank_score", "because"
    )
    return pl.concat(
        [rows, by_family(ranker.contributions(scored), catalogue(deployment.project))], how="horizontal"
    )


def _of_user(events: SliceEvents, user: str, until: datetime) -> SliceEvents:
    """What the slice shows of one user up to a list of theirs, and what was said of items."""
    return SliceEvents(
        items=events.items,
        impressions=events.impressions.filter(pl.col("user_id") == user, pl.col("shown_at") <= until),
        interactions=events.interactions.filter(pl.col("user_id") == user, pl.col("known_at") < until),
    )
