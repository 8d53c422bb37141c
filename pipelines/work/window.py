"""A ranker's window of `ranking_dataset`, of which no more is read than one process takes.

Which lists are wanted is decided on the columns that say whose they are; only then are theirs read whole.
"""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from models.ranker.drawing import draw
from pipelines.lake import Lake

_TABLE = "ranking_dataset"
_LIST = ["slice", "impression_id"]
_EXAMPLES = 5


@dataclass(frozen=True)
class RankingWindow:
    """Some slices of the lake's ranking dataset. All methods raise TableError where one is missing."""

    lake: Lake
    slices: tuple[str, ...]

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
