"""The files of a slice: one, or one per bucket if several workers write it."""

import json
import re
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl
from deltalake import DeltaTable
from deltalake.transaction import AddAction

from features.errors import TableError
from pipelines.lake.columns import SLICE

_SLICE_NAME = re.compile(r"[A-Za-z0-9_.:-]+")


@dataclass(frozen=True)
class Part:
    """A file with one bucket of a slice, invisible to readers until `Lake.publish`.

    `size` is in bytes; `columns` is the `fingerprint` of the table's schema at the time of writing.
    """

    table: str
    slice: str
    file: str
    size: int
    rows: int
    bucket: int
    buckets: int
    columns: int

    def action(self) -> AddAction:
        """The Delta log entry that publishes the part."""
        stats = json.dumps({"numRecords": self.rows})
        written = time.time_ns() // 1_000_000
        return AddAction(self.file, self.size, {SLICE: self.slice}, written, True, stats)


def part_file(slice: str, bucket: int, buckets: int) -> str:
    """A new file path, relative to the table, for a bucket of a slice. TableError for an invalid name or bucket."""
    if not _SLICE_NAME.fullmatch(slice):
        raise TableError(f"slice name {slice!r}: use letters, digits, _ . : and -")
    if not 0 <= bucket < buckets:
        raise TableError(f"bucket {bucket} of {buckets}: number the buckets from 0 to {buckets - 1}")
    return f"{SLICE}={slice}/{bucket:05d}-of-{buckets:05d}-{uuid.uuid4()}.parquet"


def require_complete(table: str, slice: str, parts: Sequence[Part], columns: int) -> None:
    """Raise TableError unless the parts are every bucket of the slice once, written with the table's columns."""
    buckets = max((part.buckets for part in parts), default=1)
    found = sorted((part.bucket, part.buckets, part.table, part.slice, part.columns) for part in parts)
    if found != [(bucket, buckets, table, slice, columns) for bucket in range(buckets)]:
        named = [f"{part.bucket} of {part.buckets} of {part.slice}" for part in parts]
        names = ", ".join(named[:5] + ["…"] * (len(named) > 5))
        raise TableError(
            f"slice {slice!r} of table {table!r} got the parts {names or '(none)'}; expected each of {buckets} buckets "
            "once, with the table's present columns: draft the slice again, with one setting of scale.buckets"
        )


def listed(delta: DeltaTable) -> pl.DataFrame:
    """A table's files in reading order, by slice and bucket: `path`, `rows`, `slice`, `bucket`, `buckets`.

    Files of other Delta writers, whose names have no bucket, are bucket 0 of 1.
    """
    files = pl.DataFrame(delta.get_add_actions(flatten=True))
    named = pl.col("path").str.extract_groups(r"/(?<bucket>\d+)-of-(?<buckets>\d+)-[^/]+$").struct
    return files.select(
        "path",
        pl.col("num_records").alias("rows"),
        pl.col(f"partition.{SLICE}").alias(SLICE),
        named.field("bucket").cast(pl.Int64).fill_null(0),
        named.field("buckets").cast(pl.Int64).fill_null(1),
    ).sort(SLICE, "bucket", "path")


def files_of(table: str, delta: DeltaTable, slices: Sequence[str] | None) -> pl.DataFrame:
    """`listed` files of the slices, all by default. Raises TableError for a missing slice."""
    files = listed(delta)
    if slices is None:
        return files
    require_slices(table, slices, files[SLICE])
    return files.filter(pl.col(SLICE).is_in(sorted(set(slices))))


def require_slices(table: str, slices: Sequence[str], existing: Iterable[str]) -> None:
    """Raise TableError for slices that the table does not have."""
    missing = sorted(set(slices) - set(existing))
    if missing:
        names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise TableError(
            f"table {table!r} has no slice {names}: materialise it with "
            f"`momentrank run PROJECT --from {missing[0]} --until {missing[-1]}`"
        )
