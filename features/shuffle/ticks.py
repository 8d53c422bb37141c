"""A slice's time in ticks; frames in ticks and in buckets."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from features.buckets import bucket
from features.counter import Counter


@dataclass(frozen=True)
class Ticks:
    """[since, until) cut into ticks of one length, of which the last may be shorter."""

    since: datetime
    until: datetime
    every: timedelta

    def __len__(self) -> int:
        return max(-((self.since - self.until) // self.every), 1)

    def window(self, tick: int) -> tuple[datetime, datetime]:
        """[start, end) of a tick, from 0."""
        start = self.since + tick * self.every
        return start, min(start + self.every, self.until)

    def stamp(self, sums: pl.DataFrame, tick: int) -> pl.DataFrame:
        """The tick's sums with its start as `at`."""
        return sums.with_columns(at=pl.lit(self.window(tick)[0], pl.Datetime("us", "UTC")))

    def cut(self, frame: pl.DataFrame, at: str) -> list[pl.DataFrame]:
        """Rows of each tick by instant `at`, in their order."""
        passed = (pl.col(at) - pl.lit(self.since)).dt.total_microseconds()
        number = (passed // (self.every // timedelta(microseconds=1))).clip(0, len(self) - 1)
        return _parted(frame, frame.select(number.cast(pl.Int32)).to_series(), len(self))


def in_buckets(frame: pl.DataFrame, key: str, buckets: int) -> list[pl.DataFrame]:
    """Rows of each bucket of column `key`, in their order."""
    return _parted(frame, bucket(frame[key], buckets), buckets)


def bucket_key(counter: Counter) -> str:
    """The key by which a counter's entries are put into buckets: the person, the item, or else a value."""
    return next((name for name in ("user_id", "item_id") if name in counter.keys), counter.keys[-1])


def _parted(frame: pl.DataFrame, numbers: pl.Series, parts: int) -> list[pl.DataFrame]:
    found = frame.with_columns(__part=numbers).partition_by(
        "__part", include_key=False, as_dict=True, maintain_order=True
    )
    return [found.get((part,), frame.clear()) for part in range(parts)]
