"""A window's rankers: fitted on all of it, on impressions drawn from it, or by several workers together.

No process reads more of the window than it takes: which impressions are wanted is decided on the columns that say whose
they are; only then are these read whole.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import polars as pl
from deltalake.fs import DeltaStorageHandler

from features.config.project import Project
from features.errors import TableError
from models.prequential import fit_rankers, fit_rankers_together
from models.ranker import Ranker, load
from models.ranker.folds import held_from
from models.ranker.sampling import draw
from models.ranker.shards import Shard, refuse_learned
from pipelines.compute.engine import Engine
from pipelines.lake import Lake

_TABLE = "ranking_dataset"
_LIST = ["slice", "impression_id"]
_EXAMPLES = 5
_NAMES = ("full", "behaviour_only")


@dataclass(frozen=True)
class RankingWindow:
    """Some slices of the lake's ranking dataset. All methods raise TableError where one is missing."""

    lake: Lake
    slices: tuple[str, ...]

    @classmethod
    def ending(cls, lake: Lake, slice: str, length: int) -> "RankingWindow":
        """The last `length` slices up to one, of those that the lake has."""
        return cls(lake, tuple([key for key in lake.slices(_TABLE) if key <= slice][-length:]))

    def read(self) -> pl.DataFrame:
        """Every row."""
        return self.lake.read(_TABLE, self.slices)

    def candidates(self) -> int:
        """How many rows there are, by the files' own account."""
        return int(self._scan().select(pl.len()).collect().item())

    def lists(self, since: datetime | None = None) -> pl.DataFrame:
        """Every list shown from an instant on: `slice, impression_id, candidates` (how many it has), `as_of`."""
        rows = self._scan() if since is None else self._scan().filter(pl.col("as_of") >= since)
        counted = rows.group_by(_LIST).agg(candidates=pl.len(), as_of=pl.col("as_of").min())
        return counted.collect(engine="streaming").sort(_LIST)

    def read_lists(self, lists: pl.DataFrame) -> pl.DataFrame:
        """Every row of some of the lists."""
        wanted = lists.lazy().select(_LIST)
        return self._scan().join(wanted, on=_LIST, how="semi").collect(engine="streaming")

    def read_bucket(self, bucket: int, buckets: int) -> pl.DataFrame:
        """Every row of the users in one of as many buckets. Never holds more than one slice of the others'."""
        parts = (self.lake.read_bucket(_TABLE, [slice], "user_id", bucket, buckets) for slice in self.slices)
        return pl.concat(list(parts))

    def read_since(self, since: datetime, candidates: int, seed: int) -> pl.DataFrame:
        """Rows of lists shown from an instant on; at most so many, whole lists drawn at random."""
        return self.read_lists(draw(self.lists(since), candidates, seed))

    def examples(self) -> pl.DataFrame:
        """A few rows of the last slice."""
        last = RankingWindow(self.lake, self.slices[-1:])
        return last._scan().head(_EXAMPLES).collect()

    def _scan(self) -> pl.LazyFrame:
        return self.lake.scan(_TABLE, self.slices)


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


@dataclass(frozen=True)
class Shards:
    """What every worker is told."""

    window: RankingWindow
    project: Project
    candidates: int
    """Rows of the window: together the workers must have read as many."""
    since: datetime
    """The first instant held out."""
    scratch: str
    """Folder, or URL, that all machines reach: where the first worker leaves what was fitted."""
    file: str

    def save(self, rankers: Sequence[Ranker]) -> None:
        """Write both rankers' files, which are text, into one."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for ranker, part in zip(rankers, _NAMES, strict=True):
                ranker.save(folder / part)
            files = {
                path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
                for path in sorted(folder.rglob("*.*"))
            }
        frame = pl.DataFrame({"file": list(files), "text": list(files.values())})
        frame.write_parquet(f"{self.scratch}/{self.file}", storage_options=self._options, mkdir=True)

    def take(self) -> tuple[Ranker, Ranker]:
        """What `save` wrote, which is removed."""
        place = f"{self.scratch}/{self.file}"
        saved = pl.read_parquet(place, glob=False, hive_partitioning=False, storage_options=self._options)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file, text in saved.iter_rows():
                (folder / file).parent.mkdir(exist_ok=True)
                (folder / file).write_text(text, encoding="utf-8")
            full, behaviour_only = (load(folder / part) for part in _NAMES)
        DeltaStorageHandler(self.scratch, self._options).delete_file(self.file)
        return full, behaviour_only

    @property
    def _options(self) -> dict[str, str]:
        return dict(self.window.lake.storage_options)


def fit_shards(shards: Shards) -> None:
    """One worker's whole work: its users' lists, both fits with the others; the first worker saves them."""
    from models.interest.workers import Workers

    project = shards.project
    with Workers.join() as workers:
        rows = shards.window.read_bucket(workers.rank, workers.size)
        read = sum(workers.gather(rows.height))
        if read != shards.candidates:
            raise TableError(
                f"{workers.size} workers read {read} candidates of a ranking_dataset of {shards.candidates}: it was "
                "written anew meanwhile, run the ranker again"
            )
        held_out = shards.window.read_since(shards.since, project.scale.in_memory, project.seed)
        shard = Shard(rows, held_out, shards.since)
        meeting = os.environ.get("MASTER_ADDR", "127.0.0.1")
        rankers = fit_rankers_together(shard, project.ranker, project.labels, project.seed, workers, meeting)
        if workers.rank == 0:
            shards.save(rankers)
