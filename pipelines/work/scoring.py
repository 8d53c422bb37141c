"""Interest scores of a slice by several actors: the people are cut into buckets, each actor loads the version once."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import polars as pl

from features.project import Project
from features.schemas import InterestScores
from features.state import MomentState, SliceEvents, start
from models.interest_input import interest_input, interest_scores_by
from pipelines.deployment import STATE, Deployment, Version
from pipelines.lake import SLICE, Lake, WriteResult
from pipelines.lake import Part as Draft

if TYPE_CHECKING:
    from models.interest.version import InterestModel

_TABLE = "interest_scores"


class Scored(NamedTuple):
    """A slice's scores, as they were published."""

    written: WriteResult
    head: pl.DataFrame
    mean: float


class Part(NamedTuple):
    """One bucket's scores, drafted."""

    draft: Draft
    total: float


@dataclass(frozen=True)
class Scorer:
    """All that an actor needs to score a slice: called, it loads the version and gives what scores a bucket."""

    lake: Lake
    project: Project
    slice: str
    version: Path
    fitted_until: str
    cache: Path
    buckets: int

    def __call__(self) -> Callable[[int], Part]:
        """What scores the people of a bucket, by its number."""
        from models.interest.version import InterestModel

        return partial(_score, self, InterestModel.load(self.version))

    def state(self, bucket: int) -> MomentState:
        """What scoring asks of a bucket's people before the slice, and every item."""
        empty = start(self.project)
        previous = self.project.slices.previous(self.slice)
        if previous is None:
            return empty
        return replace(
            empty,
            at=self.project.slices.window(previous)[1],
            items=self.lake.read(f"{STATE}/items", [previous]).drop(SLICE),
            open=self._people(f"{STATE}/open", previous, bucket),
            moments=self._people(f"{STATE}/moments", previous, bucket),
        )

    def events(self, bucket: int) -> SliceEvents:
        """The slice's items, and what a bucket's people were shown and did."""
        return SliceEvents(
            items=self.lake.read("items", [self.slice]).drop(SLICE),
            impressions=self._people("impressions", self.slice, bucket),
            interactions=self._people("interactions", self.slice, bucket),
        )

    def _people(self, table: str, slice: str, bucket: int) -> pl.DataFrame:
        return self.lake.read_bucket(table, [slice], "user_id", bucket, self.buckets).drop(SLICE)


def score_side_by_side(deployment: Deployment, slice: str, model: Version) -> Scored:
    """`interest_scores` of a slice by `scale.scorers` actors, published all at once."""
    project, lake = deployment.project, deployment.lake
    buckets = max(project.scale.buckets, project.scale.scorers)
    with _within_reach(deployment, deployment.registry.interest_folder(model.version)) as (version, cache):
        scorer = Scorer(lake, project, slice, version, model.slice, cache, buckets)
        parts = deployment.engine.map_actors(scorer, range(buckets), project.scale.scorers)
    written = lake.publish(_TABLE, slice, [part.draft for part in parts])
    head = lake.scan_slice(_TABLE, slice).head().collect()
    return Scored(written, head, sum(part.total for part in parts) / max(written.rows, 1))


def _score(scorer: Scorer, model: "InterestModel", bucket: int) -> Part:
    given = interest_input(scorer.state(bucket), scorer.events(bucket), scorer.project)
    scores = interest_scores_by(model, given, scorer.fitted_until, scorer.cache)
    table = InterestScores.validate(scores)
    draft = scorer.lake.draft(_TABLE, scorer.slice, table, bucket, scorer.buckets)
    return Part(draft, float(table["interest_score"].sum()))


@contextmanager
def _within_reach(deployment: Deployment, version: Path) -> Iterator[tuple[Path, Path]]:
    """The version and the cache of texts, in folders that every actor can read."""
    if deployment.settings.engine == "embedded":
        yield version, deployment.settings.cache
        return
    copy = deployment.shared_folder("scorers", uuid4().hex)
    shutil.copytree(version, copy)
    try:
        yield copy, deployment.shared_folder("cache")
    finally:
        shutil.rmtree(copy)
