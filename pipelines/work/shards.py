"""A ranker fitted by several workers: what each of them does, and how the others hear of it."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl
from deltalake.fs import DeltaStorageHandler

from features.errors import TableError
from features.project import Project
from models.judging import fit_rankers_together
from models.ranker import Ranker, load
from models.ranker.shards import Shard
from pipelines.work.window import RankingWindow

_NAMES = ("full", "behaviour_only")


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
