"""Interest scores of a slice, one bucket of users at a time; each worker loads the model once."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import polars as pl

from features.config.project import Project
from features.schemas import InterestScores
from features.state import MomentState, SliceEvents, start
from models.interest_input import interest_input, interest_scores_by
from pipelines.compute.engine import Engine
from pipelines.lake import SLICE, STATE, Lake, WriteResult
from pipelines.lake import Part as Draft

if TYPE_CHECKING:
    from models.interest.version import InterestModel

_TABLE = "interest_scores"


class Scored(NamedTuple):
    """A slice's published scores."""

    written: WriteResult
    head: pl.DataFrame
    mean: float


class Part(NamedTuple):
    """One bucket's drafted scores."""

    draft: Draft
    total: float


@dataclass(frozen=True)
class Scorer:
    """What a worker needs to score a slice."""

    lake: Lake
    project: Project
    slice: str
    version: Path
    fitted_until: str
    cache: Path

    @property
    def buckets(self) -> int:
        """Number of user buckets."""
        return max(self.project.scale.buckets, self.project.scale.scorers)

    def state(self, bucket: int) -> MomentState:
        """What scoring needs of the state before the slice: the bucket's users and every item."""
        empty = start(self.project.slices.start, self.project.behaviour)
        previous = self.project.slices.previous(self.slice)
        if previous is None:
            return empty
        return replace(
            empty,
            at=self.project.slices.window(previous)[1],
            items=self.lake.read(f"{STATE}/items", [previous]).drop(SLICE),
            open=self._bucket(f"{STATE}/open", previous, bucket),
            moments=self._bucket(f"{STATE}/moments", previous, bucket),
        )

    def events(self, bucket: int) -> SliceEvents:
        """The slice's items, and the bucket's impressions and interactions."""
        return SliceEvents(
            items=self.lake.read("items", [self.slice]).drop(SLICE),
            impressions=self._bucket("impressions", self.slice, bucket),
            interactions=self._bucket("interactions", self.slice, bucket),
        )

    def _bucket(self, table: str, slice: str, bucket: int) -> pl.DataFrame:
        return self.lake.read_bucket(table, [slice], "user_id", bucket, self.buckets).drop(SLICE)


def score_by_bucket(scorer: Scorer, engine: Engine, shared: Path | None) -> Scored:
    """Score a slice, `scale.scorers` buckets at a time, and publish `interest_scores` at once.

    `shared`: folder to copy the model to, if the workers cannot reach the registry's.
    """
    with _copied(scorer, shared) as reachable:
        score = partial(_score, reachable)
        parts = engine.map(score, range(scorer.buckets), at_once=scorer.project.scale.scorers)
    _loaded.cache_clear()
    written = scorer.lake.publish(_TABLE, scorer.slice, [part.draft for part in parts])
    head = scorer.lake.scan_slice(_TABLE, scorer.slice).head().collect()
    return Scored(written, head, sum(part.total for part in parts) / max(written.rows, 1))


@lru_cache(maxsize=1)
def _loaded(version: Path) -> "InterestModel":
    from models.interest.version import InterestModel

    return InterestModel.load(version)


def _score(scorer: Scorer, bucket: int) -> Part:
    data = interest_input(scorer.state(bucket), scorer.events(bucket))
    scores = interest_scores_by(_loaded(scorer.version), data, scorer.fitted_until, scorer.cache)
    table = InterestScores.validate(scores)
    draft = scorer.lake.draft(_TABLE, scorer.slice, table, bucket, scorer.buckets)
    return Part(draft, float(table["interest_score"].sum()))


@contextmanager
def _copied(scorer: Scorer, shared: Path | None) -> Iterator[Scorer]:
    """The scorer with its model copied to `shared`, if given, for the length of the context."""
    if shared is None:
        yield scorer
        return
    copy = shared / uuid4().hex
    shutil.copytree(scorer.version, copy)
    try:
        yield replace(scorer, version=copy)
    finally:
        shutil.rmtree(copy)
