"""The rankers of a slice's window, fitted in the way that its size asks for."""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import uuid4

import polars as pl

from features.project import Project
from models.folds import held_from
from models.judging import fit_rankers
from models.ranker import Ranker
from models.ranker.drawing import draw
from models.ranker.shards import refuse_learned
from pipelines.engine import Engine
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


def fit_window(window: RankingWindow, project: Project, engine: Engine, scratch: str) -> Fit:
    """The ranker of some slices of `ranking_dataset`, and its ablation. Raises as `ranker.fit` does.

    Up to `scale.in_memory` candidates, one process takes all. Of more, `scale.rankers` workers take all, or the
    one there is takes as many, whole lists drawn at random. `scratch`: a folder or URL that all workers reach.
    """
    scale, candidates = project.scale, window.candidates()
    if candidates > scale.in_memory and scale.rankers > 1:
        rankers = _together(window, candidates, project, engine, scratch)
        return Fit(*rankers, window.examples(), {"workers": rankers[0].info["workers"]})
    if candidates <= scale.in_memory:
        dataset, drawn = window.read(), {}
    else:
        dataset = window.read_lists(draw(window.lists(), scale.in_memory, project.seed))
        drawn = {"drawn": f"{dataset.height:,} of {candidates:,} candidates, whole lists at random"}
    rankers = fit_rankers(dataset, project.ranker, project.labels, project.seed)
    return Fit(*rankers, dataset.tail(5), drawn)


def _together(
    window: RankingWindow, candidates: int, project: Project, engine: Engine, scratch: str
) -> tuple[Ranker, Ranker]:
    refuse_learned(project.ranker)
    shards = Shards(window, project, candidates, held_from(window.lists()), scratch, f"{uuid4()}.parquet")
    engine.train(fit_shards, shards, project.scale.rankers)
    return shards.take()
