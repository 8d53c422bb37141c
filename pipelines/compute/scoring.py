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

    @property
    def buckets(self) -> int:
        """Parts that the users are cut into."""
        return max(self.project.scale.buckets, self.project.scale.scorers)

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


def score_side_by_side(scorer: Scorer, engine: Engine, shared: Path | None) -> Scored:
    """`interest_scores` of a slice by `scale.scorers` actors, published all at once.

    `shared`: a folder to hand the version on in, where actors do not reach the registry's.
    """
    with _within_reach(scorer, shared) as reached:
        parts = engine.map_actors(reached, range(scorer.buckets), scorer.project.scale.scorers)
    written = scorer.lake.publish(_TABLE, scorer.slice, [part.draft for part in parts])
    head = scorer.lake.scan_slice(_TABLE, scorer.slice).head().collect()
    return Scored(written, head, sum(part.total for part in parts) / max(written.rows, 1))


def _score(scorer: Scorer, model: "InterestModel", bucket: int) -> Part:
    given = interest_input(scorer.state(bucket), scorer.events(bucket), scorer.project)
    scores = interest_scores_by(model, given, scorer.fitted_until, scorer.cache)
    table = InterestScores.validate(scores)
    draft = scorer.lake.draft(_TABLE, scorer.slice, table, bucket, scorer.buckets)
    return Part(draft, float(table["interest_score"].sum()))


@contextmanager
def _within_reach(scorer: Scorer, shared: Path | None) -> Iterator[Scorer]:
    """The scorer with its version in a folder that every actor can read."""
    if shared is None:
        yield scorer
        return
    copy = shared / uuid4().hex
    shutil.copytree(scorer.version, copy)
    try:
        yield replace(scorer, version=copy)
    finally:
        shutil.rmtree(copy)
