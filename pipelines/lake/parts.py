"""The files of a slice: one, or one a bucket where several workers write a slice together."""

import json
import re
import time
import uuid
from collections import Counter
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
    """A file of a slice that is written but seen by nobody before `Lake.publish`: `bucket` of `buckets`.

    `size` is in bytes. `columns` is the `fingerprint` of the table's columns when it was written.
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
        """What Delta's log says when the part is published."""
        stats = json.dumps({"numRecords": self.rows})
        written = time.time_ns() // 1_000_000
        return AddAction(self.file, self.size, {SLICE: self.slice}, written, True, stats)


def part_file(slice: str, bucket: int, buckets: int) -> str:
    """A new name, under the table's folder, for one bucket of a slice; TableError for what cannot name one."""
    if not _SLICE_NAME.fullmatch(slice):
        raise TableError(f"slice name {slice!r}: use letters, digits, _ . : and -")
    if not 0 <= bucket < buckets:
        raise TableError(f"bucket {bucket} of {buckets}: buckets are counted from 0")
    return f"{SLICE}={slice}/{bucket:05d}-of-{buckets:05d}-{uuid.uuid4()}.parquet"


def require_whole(table: str, slice: str, parts: Sequence[Part], columns: int) -> None:
    """TableError unless the parts are one slice, each of its buckets once, written with the table's columns."""
    strange = [part.file for part in parts if (part.table, part.slice) != (table, slice)]
    if strange:
        raise TableError(f"slice {slice!r} of table {table!r} was given another slice's parts: {strange[:3]}")
    counts = sorted({part.buckets for part in parts})
    if len(counts) != 1:
        found = f"parts of {' and '.join(map(str, counts))} buckets" if parts else "no parts"
        raise TableError(
            f"slice {slice!r} of table {table!r} was given {found}, and all its parts must be of one number: "
            "draft the slice again, with one setting of scale.buckets"
        )
    _require_each_once(table, slice, parts, counts[0])
    if any(part.columns != columns for part in parts):
        raise TableError(
            f"parts of slice {slice!r} were drafted with other columns than table {table!r} has: it was made "
            "anew in between; draft the slice again"
        )


def listed(delta: DeltaTable) -> pl.DataFrame:
    """A table's files as it is read, by slice and bucket: `path`, `rows`, `slice`, `bucket`, `buckets`.

    A file whose name says nothing, as other Delta writers make, is bucket 0 of 1.
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
    """`listed` files of the slices, all by default; TableError where one is not there."""
    files = listed(delta)
    if slices is None:
        return files
    require_slices(table, slices, files[SLICE])
    return files.filter(pl.col(SLICE).is_in(sorted(set(slices))))


def require_slices(table: str, slices: Sequence[str], known: Iterable[str]) -> None:
    """TableError for slices that are not among the known ones."""
    missing = sorted(set(slices) - set(known))
    if missing:
        names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise TableError(
            f"table {table!r} has no slice {names}: materialise it with "
            f"`momentrank run PROJECT --from {missing[0]} --until {missing[-1]}`"
        )


def _require_each_once(table: str, slice: str, parts: Sequence[Part], buckets: int) -> None:
    given = Counter(part.bucket for part in parts)
    missing = [bucket for bucket in range(buckets) if bucket not in given]
    doubled = [bucket for bucket, times in given.items() if times > 1]
    if missing or doubled:
        found = ", ".join(
            f"{what} {which[:5]}" for what, which in (("without", missing), ("twice", doubled)) if which
        )
        raise TableError(
            f"slice {slice!r} of table {table!r} was given {len(parts)} parts of {buckets} buckets: {found}; "
            "publish each bucket once"
        )
