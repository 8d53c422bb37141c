"""The rankers of a window: fitted on all of it, on a sample of its impressions, or by several workers.

No process reads more of the window than it uses: impressions are chosen by their key columns, and only the chosen ones
are read in full.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import polars as pl

from features.config.project import Project
from features.errors import TableError
from models.prequential import fit_rankers, fit_rankers_together
from models.ranker import Ranker
from models.ranker import load as load_ranker
from models.ranker.folds import held_from
from models.ranker.input import draw
from models.ranker.shards import Shard, refuse_learned
from pipelines.compute.engine import Engine
from pipelines.compute.scratch import Scratch
from pipelines.lake import Lake

_TABLE = "ranking_dataset"
_IMPRESSION = ["slice", "impression_id"]
_EXAMPLES = 5
_NAMES = ("full", "behaviour_only")


@dataclass(frozen=True)
class RankingWindow:
    """Slices of the lake's ranking dataset. All methods raise TableError if a slice is missing."""

    lake: Lake
    slices: tuple[str, ...]

    @classmethod
    def ending(cls, lake: Lake, slice: str, length: int) -> "RankingWindow":
        """The last `length` stored slices up to and including `slice`."""
        return cls(lake, tuple([key for key in lake.slices(_TABLE) if key <= slice][-length:]))

    def read(self) -> pl.DataFrame:
        """Every row."""
        return self.lake.read(_TABLE, self.slices)

    def candidates(self) -> int:
        """Number of rows, from the files' metadata."""
        return int(self._scan().select(pl.len()).collect().item())

    def impressions(self, since: datetime | None = None) -> pl.DataFrame:
        """Impressions shown from an instant on: `slice, impression_id, candidates` (their number), `as_of`."""
        rows = self._scan() if since is None else self._scan().filter(pl.col("as_of") >= since)
        counted = rows.group_by(_IMPRESSION).agg(candidates=pl.len(), as_of=pl.col("as_of").min())
        return counted.collect(engine="streaming").sort(_IMPRESSION)

    def read_impressions(self, impressions: pl.DataFrame) -> pl.DataFrame:
        """Every row of these impressions."""
        keys = impressions.lazy().select(_IMPRESSION)
        return self._scan().join(keys, on=_IMPRESSION, how="semi").collect(engine="streaming")

    def read_bucket(self, bucket: int, buckets: int) -> pl.DataFrame:
        """Every row of one bucket of users; holds at most one slice of the other buckets in memory."""
        parts = (self.lake.read_bucket(_TABLE, [slice], "user_id", bucket, buckets) for slice in self.slices)
        return pl.concat(list(parts))

    def read_since(self, since: datetime, candidates: int, seed: int) -> pl.DataFrame:
        """Rows of impressions shown from an instant on: whole impressions at random, at most `candidates` rows."""
        return self.read_impressions(draw(self.impressions(since), candidates, seed))

    def examples(self) -> pl.DataFrame:
        """A few rows of the last slice."""
        last = RankingWindow(self.lake, self.slices[-1:])
        return last._scan().head(_EXAMPLES).collect()

    def _scan(self) -> pl.LazyFrame:
        return self.lake.scan(_TABLE, self.slices)


class Fit(NamedTuple):
    """The rankers fitted on a window."""

    full: Ranker
    behaviour_only: Ranker
    examples: pl.DataFrame
    """A few rows of the window."""
    tags: Mapping[str, object]
    """How the fit differed from one process on all rows."""


def fit_window(window: RankingWindow, project: Project, engine: Engine, scratch: Scratch) -> Fit:
    """Fit the ranker of a window and its ablation without text. Raises what `ranker.fit` raises.

    Up to `scale.in_memory` candidates, one process fits all rows. A larger window is split among `scale.rankers`
    workers; with a single worker, whole impressions are sampled.
    """
    scale, candidates = project.scale, window.candidates()
    if candidates > scale.in_memory and scale.rankers > 1:
        refuse_learned(project.ranker)
        own = replace(scratch, root=f"{scratch.root}/{uuid4()}")
        shards = Shards(window, project, candidates, held_from(window.impressions()), own)
        engine.train(fit_shards, shards, scale.rankers)
        rankers = shards.load()
        return Fit(*rankers, window.examples(), {"workers": rankers[0].info["workers"]})
    if candidates <= scale.in_memory:
        dataset, tags = window.read(), {}
    else:
        dataset = window.read_impressions(draw(window.impressions(), scale.in_memory, project.seed))
        tags = {"drawn": f"{dataset.height:,} of {candidates:,} candidates, whole impressions at random"}
    rankers = fit_rankers(dataset, project.ranker, project.labels, project.seed)
    return Fit(*rankers, dataset.tail(_EXAMPLES), tags)


@dataclass(frozen=True)
class Shards:
    """A distributed fit, as passed to every worker."""

    window: RankingWindow
    project: Project
    candidates: int
    """Rows of the window; the workers check that they read as many in total."""
    since: datetime
    """Start of the holdout for early stopping."""
    scratch: Scratch
    """The first worker saves the rankers there."""

    def save(self, rankers: Sequence[Ranker]) -> None:
        """Write both rankers' text files to scratch."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for ranker, part in zip(rankers, _NAMES, strict=True):
                ranker.save(folder / part)
            files = [
                (path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8"))
                for path in sorted(folder.rglob("*.*"))
            ]
        self.scratch.write("rankers", {"files": pl.DataFrame(files, ["file", "text"], orient="row")})

    def load(self) -> tuple[Ranker, Ranker]:
        """Load the rankers that `save` wrote, and remove their files."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file, text in self.scratch.read("rankers", "files").iter_rows():
                (folder / file).parent.mkdir(exist_ok=True)
                (folder / file).write_text(text, encoding="utf-8")
            full, behaviour_only = (load_ranker(folder / part) for part in _NAMES)
        self.scratch.remove()
        return full, behaviour_only


def fit_shards(shards: Shards) -> None:
    """Run one worker: read its bucket of users, take part in both fits, and save the rankers if its rank is 0."""
    from models.interest.workers import Workers

    project = shards.project
    with Workers.join() as workers:
        rows = shards.window.read_bucket(workers.rank, workers.size)
        read = sum(workers.gather(rows.height))
        if read != shards.candidates:
            raise TableError(
                f"{workers.size} workers read {read} candidates, but ranking_dataset had {shards.candidates}: it was "
                "rewritten during the fit; run the ranker again"
            )
        held_out = shards.window.read_since(shards.since, project.scale.in_memory, project.seed)
        shard = Shard(rows, held_out, shards.since)
        address = os.environ.get("MASTER_ADDR", "127.0.0.1")
        rankers = fit_rankers_together(shard, project.ranker, project.labels, project.seed, workers, address)
        if workers.rank == 0:
            shards.save(rankers)
