"""The rankers of a slice's window, fitted in the way that its size asks for."""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import uuid4

import polars as pl

from models.folds import held_from
from models.judging import fit_rankers
from models.ranker import Ranker
from models.ranker.drawing import draw
from models.ranker.shards import refuse_learned
from pipelines.deployment import Deployment
from pipelines.work.shards import Shards, fit_shards
from pipelines.work.window import RankingWindow


class Fit(NamedTuple):
    """What a window gave."""

    full: Ranker
    behaviour_only: Ranker
    examples: pl.DataFrame
    """A few rows of the window."""
    tags: Mapping[str, object]
    """How it was fitted, where that was not by one process on everything."""


def fit_window(deployment: Deployment, slices: list[str]) -> Fit:
    """The ranker of some slices of `ranking_dataset`, and its ablation. Raises as `ranker.fit` does.

    Up to `scale.in_memory` candidates, one process takes all. Of more, `scale.rankers` workers take all, or the
    one there is takes as many, whole lists drawn at random.
    """
    project, scale = deployment.project, deployment.project.scale
    window = RankingWindow(deployment.lake, tuple(slices))
    candidates = window.candidates()
    if candidates <= scale.in_memory:
        dataset = window.read()
        return Fit(*fit_rankers(dataset, project), dataset.tail(5), {})
    if scale.rankers > 1:
        rankers = _together(deployment, window, candidates)
        return Fit(*rankers, window.examples(), {"workers": rankers[0].info["workers"]})
    dataset = window.read_lists(draw(window.lists(), scale.in_memory, project.seed))
    drawn = {"drawn": f"{dataset.height:,} of {candidates:,} candidates, whole lists at random"}
    return Fit(*fit_rankers(dataset, project), dataset.tail(5), drawn)


def _together(deployment: Deployment, window: RankingWindow, candidates: int) -> tuple[Ranker, Ranker]:
    project = deployment.project
    refuse_learned(project.ranker)
    since = held_from(window.lists())
    shards = Shards(window, project, candidates, since, deployment.scratch("rankers"), f"{uuid4()}.parquet")
    deployment.engine.train(fit_shards, shards, project.scale.rankers)
    return shards.take()
