"""The table store: Delta Lake tables in a folder or an object store, one slice replaced atomically at a time.

Every table has one more column than its schema, `slice`, by which it is partitioned. A slice is one Parquet
file, or one a bucket where several workers write it together; each keeps its rows in the order written. An
empty slice is a file without rows: "nothing happened" is not "was never computed". Files are written first and
committed to the Delta log after: a writer killed in between leaves a file that no reader sees.

Of two writers of one slice the second replaces what the first wrote. Delta alone would keep both where neither
saw a file to replace, so each commit is also a transaction of the slice, which Delta refuses the second.
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
    fingerprint,
    in_order,
    refuse_lossy_types,
    require_columns,
    without_slice,
)
from pipelines.lake.handles import Handles
from pipelines.lake.parts import Part, files_of, part_file, require_slices, require_whole

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
    """What a write did: rows in the slice now, and the table's Delta version that holds them."""

    rows: int
    version: int


@dataclass(frozen=True)
class Lake:
    """Delta tables under one root: a folder, or a URL such as `s3://bucket/lake`.

    `storage_options` go to Delta and Polars as they are (keys and endpoints of an object store).
    A table's name may contain `/` (`moment_state/item`). All methods raise TableError.
    """

    root: str
    storage_options: Mapping[str, str] = field(default_factory=dict)

    def write(self, table: str, slice: str, frame: pl.DataFrame) -> WriteResult:
        """Replace one slice of a table by `frame`, rows in the order given; other slices stay as they are.

        Creates the table on the first write. `frame` may carry a `slice` column that says the same.
        Raises TableError where columns differ from the table's, or have a type that Delta cannot give back.
        """
        part, delta = self._draft(table, slice, frame, 0, 1)
        return self._commit(table, delta, slice, [part])

    def draft(self, table: str, slice: str, frame: pl.DataFrame, bucket: int = 0, buckets: int = 1) -> Part:
        """Write one bucket of a slice to a file that is seen by nobody before `publish`.

        Every worker drafts its own buckets, and one publishes them all; a table is bucketed by one column.
        A draft that is never published is a stray, which `purge` removes. Raises what `write` raises.
        """
        return self._draft(table, slice, frame, bucket, buckets)[0]

    def publish(self, table: str, slice: str, parts: Sequence[Part]) -> WriteResult:
        """Replace one slice by drafted parts, all at once; TableError unless each bucket is there once."""
        delta = self._open(table)
        require_whole(table, slice, parts, fingerprint(delta.schema()))
        return self._commit(table, delta, slice, parts)

    def add(self, table: str, parts: Sequence[Part]) -> None:
        """Add drafted parts, of any slices, to what the table has; readers see all of them or none."""
        if not parts:
            return
        delta = self._open(table)
        actions: list[AddAction | RemoveAction] = [part.action() for part in parts]
        delta.create_write_transaction(actions, "append", delta.schema(), [SLICE])

    def delete(self, table: str, slice: str) -> WriteResult:
        """Take one slice out of a table; it counts as never computed. TableError if it is not there."""
        delta = self._open(table)
        require_slices(table, [slice], _slices(delta))
        return self._commit(table, delta, slice, [])

    def read(
        self, table: str, slices: Sequence[str] | None = None, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """Rows of the slices (all by default), by slice, bucket, then in the order written; `slice` comes last.

        Raises TableError for a missing table, slice or column.
        """
        delta = self._open(table)
        return self._collect(table, delta, files_of(table, delta, slices), columns)

    def read_bucket(
        self,
        table: str,
        slices: Sequence[str],
        key: str,
        bucket: int,
        buckets: int,
        columns: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Rows of the slices whose column `key` is in one bucket (`features.buckets`), in the order of `read`.

        Of a slice that was written in as many buckets only that bucket's file is read. Raises TableError as
        `read` does, and where the table was bucketed by another column.
        """
        delta = self._open(table)
        files = files_of(table, delta, slices)
        chosen = None if columns is None else [*columns, key]
        own = self._collect(table, delta, files.filter(buckets=buckets, bucket=bucket), chosen)
        if (bucket_of(own[key].head(_BUCKET_SAMPLE), buckets) != bucket).any():
            raise TableError(
                f"table {table!r} is not bucketed by {key}: name the column that it was drafted by"
            )
        others = self._collect(table, delta, files.filter(pl.col("buckets") != buckets), chosen)
        found = others.filter(bucket_of(others[key], buckets) == bucket)
        rows = pl.concat([own, found]).sort(SLICE, maintain_order=True)
        return rows if columns is None else rows.select(columns)

    def scan(self, table: str, slices: Sequence[str] | None = None) -> pl.LazyFrame:
        """What `read` reads, lazily. Name the slices: a filter on `slice` opens the files of the others too."""
        delta = self._open(table)
        files = files_of(table, delta, slices)
        if files.is_empty():
            return pl.scan_delta(delta).head(0)
        # Not Polars' own scan of Delta: it takes a folder named `a=b` for a partition and does not decode addresses.
        path = pl.col(SLICE).str.split("/").list.get(-2)
        rows = self._scan(table, files, include_file_paths=SLICE)
        return rows.with_columns(path.str.strip_prefix(f"{SLICE}="))

    def scan_slice(self, table: str, slice: str) -> pl.LazyFrame:
        """A slice's rows in the order of `read`, without `slice`, lazily: some can be read without the others."""
        return self._scan(table, files_of(table, self._open(table), [slice]))

    def has(self, table: str, slice: str) -> bool:
        """Whether the slice was written, be it empty."""
        return slice in self.slices(table)

    def slices(self, table: str) -> list[str]:
        """Slices written so far, in order; none for a table that does not exist."""
        try:
            return _slices(self._delta(table))
        except TableNotFoundError:
            return []

    def version(self, table: str) -> int:
        """The table's Delta version: it grows with each write."""
        return self._open(table).version()

    def tables(self) -> list[str]:
        """Names of all tables, found by their logs; none where there is no folder yet."""
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
        """Remove files that the table's present version does not need; returns how many. None older can be read.

        `strays` too: what writers that were killed left behind; only while nobody writes.
        """
        delta = self._open(table)
        gone = delta.vacuum(0, dry_run=False, enforce_retention_duration=False, full=strays)
        return len(gone)

    def location(self, table: str) -> str:
        """Folder or URL of a table, for people and for other Delta readers."""
        if not _TABLE_NAME.fullmatch(table):
            raise TableError(
                f"table name {table!r}: use letters, digits, _ and -, with / between the parts of a name"
            )
        return f"{_local(self.root)}/{table}"

    def _delta(self, table: str) -> DeltaTable:
        with self._intact(table, f"remove {self.location(table)} and run all slices again"):
            return _HANDLES.open(self.location(table), self.storage_options)

    @contextmanager
    def _intact(self, table: str, mend: str) -> Iterator[None]:
        """Raise TableError, which says what mends it, where the files of a table in a folder cannot be read.

        Errors of an object store stay what they are: it may only be away (`pipelines/retries.py`).
        """
        try:
            yield
        except TableNotFoundError:
            raise
        except (DeltaError, FileNotFoundError, pl.exceptions.ComputeError) as error:
            if "://" in self.location(table):
                raise
            found = str(error).strip().partition("\n")[0][:200]
            raise TableError(
                f"table {table!r} in {_local(self.root)} is damaged ({found}): put it back from a copy, or {mend}: "
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
        for attempt in range(COMMIT_ATTEMPTS):
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
                    # Somebody else created it meanwhile: the next turn opens theirs.
                    _pause(attempt)
        raise TableError(f"table {table!r} could not be created in {_local(self.root)}")

    def _draft(
        self, table: str, slice: str, frame: pl.DataFrame, bucket: int, buckets: int
    ) -> tuple[Part, DeltaTable]:
        file = part_file(slice, bucket, buckets)
        rows = without_slice(table, slice, frame)
        refuse_lossy_types(table, rows)
        schema = Schema.from_arrow(pl.Schema({**rows.schema, SLICE: pl.String()}))
        delta = self._create(table, schema)
        kept = delta.schema()
        rows = rows.select(in_order(table, self.location(table), kept, schema))
        size = self._write_file(table, file, rows)
        return Part(table, slice, file, size, rows.height, bucket, buckets, fingerprint(kept)), delta

    def _collect(
        self, table: str, delta: DeltaTable, files: pl.DataFrame, columns: Sequence[str] | None
    ) -> pl.DataFrame:
        """The files' rows, in the order of `files`; `slice` comes last, or where `columns` has it."""
        known = [column.name for column in delta.schema().fields if column.name != SLICE]
        wanted = [*known, SLICE] if columns is None else list(dict.fromkeys(columns))
        require_columns(table, wanted, [*known, SLICE])
        # Of many small slices most may be empty, and each file costs.
        files = files.filter(pl.col("rows") > 0)
        if files.is_empty():
            return pl.scan_delta(delta).head(0).select(wanted).collect()
        of_rows = files.select(pl.col(SLICE).repeat_by("rows").explode())
        if wanted == [SLICE]:
            return of_rows
        rows = self._scan(table, files).select(name for name in wanted if name != SLICE)
        first, last = files[SLICE][0], files[SLICE][-1]
        with self._intact(table, f"run these slices again with --from {first} --until {last}"):
            found = rows.collect()
        return found.with_columns(of_rows[SLICE]).select(wanted)

    def _scan(self, table: str, files: pl.DataFrame, include_file_paths: str | None = None) -> pl.LazyFrame:
        return pl.scan_parquet(
            [f"{self.location(table)}/{path}" for path in files["path"]],
            glob=False,
            hive_partitioning=False,
            storage_options=dict(self.storage_options),
            include_file_paths=include_file_paths,
        )

    def _write_file(self, table: str, file: str, rows: pl.DataFrame) -> int:
        """Write one Parquet file and return its size in bytes, which Delta's readers rely on."""
        options = dict(self.storage_options)
        rows.write_parquet(f"{self.location(table)}/{file}", storage_options=options, mkdir=True)
        return int(DeltaStorageHandler(self.location(table), options).get_file_info([file])[0].size)

    def _commit(self, table: str, delta: DeltaTable, slice: str, parts: Sequence[Part]) -> WriteResult:
        """Replace the slice's files; retried from the log where another writer of the slice came first."""
        for attempt in range(COMMIT_ATTEMPTS):
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
                _pause(attempt)
                delta = self._open(table)
        raise TableError(
            f"slice {slice!r} of table {table!r} could not be written in {COMMIT_ATTEMPTS} attempts, "
            f"others are writing the same slice: let one run finish, then run again ({conflict})"
        )


def _local(root: str) -> str:
    """A `file://` URL as the folder it means; anything else as it is, without a closing slash."""
    return (url2pathname(urlparse(root).path) if root.startswith("file://") else root).rstrip("/")


def _slices(delta: DeltaTable) -> list[str]:
    return sorted({partition[SLICE] for partition in delta.partitions()})


def _pause(attempt: int) -> None:
    """Wait longer after each conflict, and at random: writers that met once should not meet again."""
    time.sleep(random.random() * min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**attempt))
