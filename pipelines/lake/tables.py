"""The table store: Delta Lake tables in a folder or an object store, written one slice at a time, atomically.

Every table is partitioned by an additional column, `slice`. A slice is one Parquet file, or one per bucket if several
workers write it; rows keep the order written. An empty slice is a file without rows, which tells "nothing happened"
from "never computed". Files are written first and then committed to the Delta log, so a writer killed in between
leaves a file that no reader sees.

If two writers write the same slice, the second replaces the first. Delta alone would keep both if neither saw a file to
replace; so each commit is also a transaction of the slice, and Delta rejects the second, which is then retried.
"""

import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from urllib.parse import urlparse
from urllib.request import url2pathname

import polars as pl
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction, RemoveAction

from features.buckets import bucket as bucket_of
from features.errors import TableError
from pipelines.lake.columns import (
    SLICE,
    column_order,
    fingerprint,
    refuse_lossy_types,
    require_columns,
    without_slice,
)
from pipelines.lake.handles import Handles
from pipelines.lake.parts import Part, files_of, part_file, require_complete, require_slices

STATE = "moment_state"
"""Folder with the tables of the moment state."""
COMMIT_ATTEMPTS = 12
FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 1.0

_TABLE_NAME = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
_BUCKET_SAMPLE = 100  # rows
_HANDLES = Handles()


@dataclass(frozen=True)
class WriteResult:
    """Rows now in the slice, and the table's Delta version after the write."""

    rows: int
    version: int


@dataclass(frozen=True)
class Lake:
    """Delta tables under one root: a folder, or a URL such as `s3://bucket/lake`.

    `storage_options` are passed to Delta and Polars unchanged (keys and endpoints of an object store).
    Table names may contain `/` (`moment_state/item`). All methods raise TableError.
    """

    root: str
    storage_options: Mapping[str, str] = field(default_factory=dict)

    def write(self, table: str, slice: str, frame: pl.DataFrame) -> WriteResult:
        """Replace one slice of a table with `frame`, whose rows keep their order; creates the table on first write.

        `frame` may have a `slice` column with this slice. Raises TableError if columns differ from the table's or
        have a type that Delta would change.
        """
        part, delta = self._draft(table, slice, frame, 0, 1)
        return self._commit(table, delta, slice, [part])

    def draft(self, table: str, slice: str, frame: pl.DataFrame, bucket: int = 0, buckets: int = 1) -> Part:
        """Write one bucket of a slice to a file that readers do not see until `publish`.

        Workers draft their own buckets and one process publishes them all. A table is bucketed by one column.
        `purge` with `strays` removes drafts that were never published. Raises what `write` raises.
        """
        return self._draft(table, slice, frame, bucket, buckets)[0]

    def publish(self, table: str, slice: str, parts: Sequence[Part]) -> WriteResult:
        """Replace one slice with drafted parts, atomically. Raises TableError unless each bucket is there once."""
        delta = self._open(table)
        require_complete(table, slice, parts, fingerprint(delta.schema()))
        return self._commit(table, delta, slice, parts)

    def add(self, table: str, parts: Sequence[Part]) -> None:
        """Append drafted parts of any slices to the table, atomically."""
        if not parts:
            return
        delta = self._open(table)
        actions: list[AddAction | RemoveAction] = [part.action() for part in parts]
        delta.create_write_transaction(actions, "append", delta.schema(), [SLICE])

    def delete(self, table: str, slice: str) -> WriteResult:
        """Remove one slice, as if it was never computed. Raises TableError if it does not exist."""
        delta = self._open(table)
        require_slices(table, [slice], _slices(delta))
        return self._commit(table, delta, slice, [])

    def read(
        self, table: str, slices: Sequence[str] | None = None, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """Rows of the slices (all by default), by slice, bucket and the order written; `slice` is the last column.

        Raises TableError for a missing table, slice or column.
        """
        delta = self._open(table)
        return self._collect(table, delta, files_of(table, delta, slices), columns)

    def read_bucket(
        self, table: str, slices: Sequence[str], key: str, bucket: int, buckets: int
    ) -> pl.DataFrame:
        """Rows of the slices whose column `key` is in one bucket (`features.buckets`), in the order of `read`.

        Reads only that bucket's file from slices written in as many buckets. Raises TableError as `read` does, and
        if the table was bucketed by another column.
        """
        delta = self._open(table)
        files = files_of(table, delta, slices)
        own = self._collect(table, delta, files.filter(buckets=buckets, bucket=bucket))
        if (bucket_of(own[key].head(_BUCKET_SAMPLE), buckets) != bucket).any():
            raise TableError(
                f"table {table!r} is not bucketed by {key}: pass the column that its buckets were drafted by"
            )
        others = self._collect(table, delta, files.filter(pl.col("buckets") != buckets))
        others = others.filter(bucket_of(others[key], buckets) == bucket)
        return pl.concat([own, others]).sort(SLICE, maintain_order=True)

    def scan(self, table: str, slices: Sequence[str] | None = None) -> pl.LazyFrame:
        """As `read`, lazily. Pass the slices: a filter on `slice` would open the files of all slices."""
        delta = self._open(table)
        files = files_of(table, delta, slices)
        if files.is_empty():
            return pl.scan_delta(delta).head(0)
        # Not `pl.scan_delta`: it takes any folder named `a=b` for a partition and does not decode URLs.
        path = pl.col(SLICE).str.split("/").list.get(-2)
        rows = self._scan(table, files, include_file_paths=SLICE)
        return rows.with_columns(path.str.strip_prefix(f"{SLICE}="))

    def scan_slice(self, table: str, slice: str) -> pl.LazyFrame:
        """A slice's rows in the order of `read`, lazily and without `slice`."""
        return self._scan(table, files_of(table, self._open(table), [slice]))

    def has(self, table: str, slice: str) -> bool:
        """Whether the slice was written, even if it is empty."""
        return slice in self.slices(table)

    def slices(self, table: str) -> list[str]:
        """The table's slices, in order; an empty list if the table does not exist."""
        try:
            return _slices(self._delta(table))
        except TableNotFoundError:
            return []

    def version(self, table: str) -> int:
        """The table's Delta version, which each write increments."""
        return self._open(table).version()

    def tables(self) -> list[str]:
        """Names of all tables; an empty list before the first write."""
        try:
            store = DeltaStorageHandler(_local(self.root), dict(self.storage_options))
        except TableNotFoundError:
            return []
        files = store.get_file_info_selector(
            SimpleNamespace(base_dir="", allow_not_found=True, recursive=True)
        )
        parts = (file.path.partition("/_delta_log/") for file in files)
        return sorted({name for name, log, _ in parts if log})

    def purge(self, table: str, *, strays: bool = False) -> int:
        """Delete the files of older versions, which can then no longer be read; returns their number.

        `strays`: also delete files that killed writers left behind. Use it only while nobody writes.
        """
        delta = self._open(table)
        return len(delta.vacuum(0, dry_run=False, enforce_retention_duration=False, full=strays))

    def location(self, table: str) -> str:
        """Folder or URL of a table, for other Delta readers."""
        if not _TABLE_NAME.fullmatch(table):
            raise TableError(
                f"table name {table!r}: use letters, digits, _ and -, with / between the parts of a name"
            )
        return f"{_local(self.root)}/{table}"

    def _delta(self, table: str) -> DeltaTable:
        with self._readable(table, f"remove {self.location(table)} and run all slices again"):
            return _HANDLES.open(self.location(table), self.storage_options)

    @contextmanager
    def _readable(self, table: str, repair: str) -> Iterator[None]:
        """Turn read errors of a local table into a TableError that says how to repair it.

        Errors of an object store pass through: they may be temporary (`pipelines/retries.py`).
        """
        try:
            yield
        except TableNotFoundError:
            raise
        except (DeltaError, FileNotFoundError, pl.exceptions.ComputeError) as error:
            if "://" in self.location(table):
                raise
            reason = str(error).strip().partition("\n")[0][:200]
            raise TableError(
                f"table {table!r} in {_local(self.root)} is damaged ({reason}): restore a backup, or {repair}: "
                "momentrank run PROJECT"
            ) from error

    def _open(self, table: str) -> DeltaTable:
        try:
            return self._delta(table)
        except TableNotFoundError:
            raise TableError(
                f"table {table!r} does not exist in {_local(self.root)}: "
                "materialise it with `momentrank run PROJECT`"
            ) from None

    def _create(self, table: str, schema: Schema) -> DeltaTable:
        for _ in _attempts():
            try:
                return self._delta(table)
            except TableNotFoundError:
                try:
                    return DeltaTable.create(
                        self.location(table),
                        schema,
                        partition_by=[SLICE],
                        storage_options=dict(self.storage_options),
                    )
                except DeltaError:
                    continue  # another writer created it meanwhile: the next attempt opens it
        raise TableError(
            f"table {table!r} could not be created in {_local(self.root)} in {COMMIT_ATTEMPTS} attempts: run again"
        )

    def _draft(
        self, table: str, slice: str, frame: pl.DataFrame, bucket: int, buckets: int
    ) -> tuple[Part, DeltaTable]:
        file = part_file(slice, bucket, buckets)
        rows = without_slice(table, slice, frame)
        refuse_lossy_types(table, rows)
        schema = Schema.from_arrow(pl.Schema({**rows.schema, SLICE: pl.String()}))
        delta = self._create(table, schema)
        stored = delta.schema()
        rows = rows.select(column_order(table, self.location(table), stored, schema))
        size = self._write_file(table, file, rows)
        return Part(table, slice, file, size, rows.height, bucket, buckets, fingerprint(stored)), delta

    def _collect(
        self, table: str, delta: DeltaTable, files: pl.DataFrame, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """Rows of the files, in the order of `files`; `slice` is the last column unless `columns` names it."""
        existing = [column.name for column in delta.schema().fields if column.name != SLICE]
        selected = [*existing, SLICE] if columns is None else list(dict.fromkeys(columns))
        require_columns(table, selected, [*existing, SLICE])
        # Opening a file is slow, and of many small slices most may be empty.
        files = files.filter(pl.col("rows") > 0)
        if files.is_empty():
            return pl.scan_delta(delta).head(0).select(selected).collect()
        slice_column = files.select(pl.col(SLICE).repeat_by("rows").explode())
        if selected == [SLICE]:
            return slice_column
        rows = self._scan(table, files).select(name for name in selected if name != SLICE)
        first, last = files[SLICE][0], files[SLICE][-1]
        with self._readable(table, f"run these slices again with --from {first} --until {last}"):
            frame = rows.collect()
        return frame.with_columns(slice_column[SLICE]).select(selected)

    def _scan(self, table: str, files: pl.DataFrame, include_file_paths: str | None = None) -> pl.LazyFrame:
        return pl.scan_parquet(
            [f"{self.location(table)}/{path}" for path in files["path"]],
            glob=False,
            hive_partitioning=False,
            storage_options=dict(self.storage_options),
            include_file_paths=include_file_paths,
        )

    def _write_file(self, table: str, file: str, rows: pl.DataFrame) -> int:
        """Write one Parquet file and return its size in bytes, which Delta readers need."""
        options = dict(self.storage_options)
        rows.write_parquet(f"{self.location(table)}/{file}", storage_options=options, mkdir=True)
        return int(DeltaStorageHandler(self.location(table), options).get_file_info([file])[0].size)

    def _commit(self, table: str, delta: DeltaTable, slice: str, parts: Sequence[Part]) -> WriteResult:
        """Replace the slice's files; retries on the new version if another writer of the slice committed first."""
        for _ in _attempts():
            transaction = Transaction(f"{SLICE}={slice}", delta.version() + 1)
            try:
                delta.create_write_transaction(
                    [part.action() for part in parts],
                    "overwrite",
                    delta.schema(),
                    [SLICE],
                    [(SLICE, "=", slice)],
                    commit_properties=CommitProperties(app_transactions=[transaction]),
                )
                delta.update_incremental()
                return WriteResult(sum(part.rows for part in parts), delta.version())
            except CommitFailedError as error:
                conflict = error
                delta = self._open(table)
        raise TableError(
            f"slice {slice!r} of table {table!r} could not be written in {COMMIT_ATTEMPTS} attempts, because other "
            f"runs write the same slice: wait until they finish, then run again ({conflict})"
        )


def _local(root: str) -> str:
    """Turn a `file://` URL into its path, and strip a trailing slash."""
    return (url2pathname(urlparse(root).path) if root.startswith("file://") else root).rstrip("/")


def _slices(delta: DeltaTable) -> list[str]:
    return sorted({partition[SLICE] for partition in delta.partitions()})


def _attempts() -> Iterator[None]:
    """Attempts with random exponential backoff between them, so that conflicting writers do not collide again."""
    for attempt in range(COMMIT_ATTEMPTS):
        yield
        time.sleep(random.random() * min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**attempt))
