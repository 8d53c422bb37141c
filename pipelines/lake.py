"""The table store: Delta Lake tables in a folder or an object store, one slice replaced atomically at a time.

Every table has one more column than its schema, `slice`, by which it is partitioned. A slice is one Parquet
file, which keeps its rows in the order written; an empty slice is a file without rows, so that "nothing
happened" is not mistaken for "was never computed". Files are written first and committed to the Delta log
after: a writer killed in between leaves a file that no reader sees.
"""

import json
import random
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlparse
from urllib.request import url2pathname

import polars as pl
from deltalake import DeltaTable, Schema
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler
from deltalake.transaction import AddAction, RemoveAction
from polars.datatypes import DataTypeClass

from features.errors import TableError
from pipelines.alone import alone

SLICE = "slice"
COMMIT_ATTEMPTS = 12
FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 1.0

_TABLE_NAME = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
_SLICE_NAME = re.compile(r"[A-Za-z0-9_.:-]+")
# Delta has no unsigned, categorical, array, duration or time columns: they would come back as something else.
_KEPT_TYPES = (
    pl.Int8,
    pl.Int16,
    pl.Int32,
    pl.Int64,
    pl.Float32,
    pl.Float64,
    pl.Boolean,
    pl.String,
    pl.Binary,
    pl.Date,
    pl.Datetime("us", "UTC"),
)


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
        rows = _without_slice(table, slice, frame)
        _refuse_lossy_types(table, rows)
        schema = Schema.from_arrow(pl.Schema({**rows.schema, SLICE: pl.String()}))
        delta = self._create(table, schema)
        rows = rows.select(self._columns_in_order(table, delta, schema))
        file = f"{SLICE}={slice}/{uuid.uuid4()}.parquet"
        size = self._write_file(table, file, rows)
        stats = json.dumps({"numRecords": rows.height})
        add = AddAction(file, size, {SLICE: slice}, time.time_ns() // 1_000_000, True, stats)
        return WriteResult(rows.height, self._commit(table, delta, slice, [add]))

    def delete(self, table: str, slice: str) -> WriteResult:
        """Take one slice out of a table; it counts as never computed. TableError if it is not there."""
        delta = self._open(table)
        self._require(table, delta, [slice])
        return WriteResult(0, self._commit(table, delta, slice, []))

    def read(
        self, table: str, slices: Sequence[str] | None = None, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """Rows of the slices (all by default), by slice, then in the order written; `slice` comes last.

        Raises TableError for a missing table, slice or column.
        """
        delta = self._open(table)
        rows = pl.scan_delta(delta)
        if slices is not None:
            self._require(table, delta, slices)
            rows = rows.filter(pl.col(SLICE).is_in(sorted(set(slices))))
        if columns is not None:
            _require_columns(table, columns, rows.collect_schema().names())
            rows = rows.select(*(name for name in columns if name != SLICE), SLICE)
        frame = rows.collect()
        # Files come in the order of the log; sorting is stable, so it leaves each slice's rows in order.
        if not frame[SLICE].is_sorted():
            frame = frame.sort(SLICE, maintain_order=True)
        return frame if columns is None else frame.select(columns)

    def scan(self, table: str) -> pl.LazyFrame:
        """The whole table, lazily: filter on `slice` to read some. Slices come in any order."""
        return pl.scan_delta(self._open(table))

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
        """Names of all tables, found by their logs."""
        files = DeltaStorageHandler(_local(self.root), dict(self.storage_options)).get_file_info_selector(
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
        return DeltaTable(self.location(table), storage_options=dict(self.storage_options))

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

    def _columns_in_order(self, table: str, delta: DeltaTable, schema: Schema) -> list[str]:
        stored = {column.name: column.type for column in delta.schema().fields}
        written = {column.name: column.type for column in schema.fields}
        if stored != written:
            differing = sorted(
                name for name in stored.keys() | written.keys() if stored.get(name) != written.get(name)
            )
            raise TableError(
                f"table {table!r} has other columns than the slice being written: "
                + "; ".join(f"{c}: {_type(stored, c)} there, {_type(written, c)} here" for c in differing[:5])
                + f". If the project changed on purpose, remove {self.location(table)} and run all slices "
                "again; to keep both, set MOMENTRANK_HOME to another folder"
            )
        return [name for name in stored if name != SLICE]

    def _write_file(self, table: str, file: str, rows: pl.DataFrame) -> int:
        """Write one Parquet file and return its size in bytes, which Delta's readers rely on."""
        options = dict(self.storage_options)
        rows.write_parquet(f"{self.location(table)}/{file}", storage_options=options, mkdir=True)
        return int(DeltaStorageHandler(self.location(table), options).get_file_info([file])[0].size)

    def _commit(
        self, table: str, delta: DeltaTable, slice: str, files: list[AddAction | RemoveAction]
    ) -> int:
        """Replace the slice's files; retried, since another writer may commit at the same instant."""
        for attempt in range(COMMIT_ATTEMPTS):
            try:
                with self._turn(table):
                    delta.update_incremental()  # what was not seen would stay beside what is added
                    delta.create_write_transaction(
                        files, "overwrite", delta.schema(), [SLICE], [(SLICE, "=", slice)]
                    )
                    delta.update_incremental()
                return delta.version()
            except DeltaError as error:
                conflict = error
                _pause(attempt)
                delta = self._open(table)
        raise TableError(
            f"slice {slice!r} of table {table!r} could not be written in {COMMIT_ATTEMPTS} attempts, "
            f"others are writing the same slice: let one run finish, then run again ({conflict})"
        )

    def _turn(self, table: str) -> AbstractContextManager[None]:
        """Alone at a table's log among this machine's processes; in an object store nobody is kept out."""
        root = _local(self.root)
        return nullcontext() if "://" in root else alone(Path(root) / ".locks" / table.replace("/", "."))

    def _require(self, table: str, delta: DeltaTable, slices: Sequence[str]) -> None:
        missing = sorted(set(slices) - set(_slices(delta)))
        if missing:
            names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
            raise TableError(
                f"table {table!r} has no slice {names}: materialise it with "
                f"`momentrank run PROJECT --from {missing[0]} --until {missing[-1]}`"
            )


def _local(root: str) -> str:
    """A `file://` URL as the folder it means; anything else as it is, without a closing slash."""
    return (url2pathname(urlparse(root).path) if root.startswith("file://") else root).rstrip("/")


def _slices(delta: DeltaTable) -> list[str]:
    return sorted({partition[SLICE] for partition in delta.partitions()})


def _without_slice(table: str, slice: str, frame: pl.DataFrame) -> pl.DataFrame:
    if not _SLICE_NAME.fullmatch(slice):
        raise TableError(f"slice name {slice!r}: use letters, digits, _ . : and -")
    if SLICE not in frame.columns:
        return frame
    others = frame.filter(pl.col(SLICE).ne_missing(slice))[SLICE].unique().to_list()
    if others:
        raise TableError(f"slice {slice!r} of table {table!r} was given rows of other slices: {others[:3]}")
    return frame.drop(SLICE)


def _refuse_lossy_types(table: str, frame: pl.DataFrame) -> None:
    for name, dtype in frame.schema.items():
        for leaf in _leaves(dtype):
            if leaf not in _KEPT_TYPES:
                raise TableError(
                    f"column {name!r} of table {table!r} is {dtype}, and Delta cannot give {leaf} back: "
                    "cast it to signed integers, floats, Boolean, String, Binary, Date, Datetime(us, UTC), "
                    "or List and Struct of these"
                )


def _leaves(dtype: DataTypeClass | pl.DataType) -> list[DataTypeClass | pl.DataType]:
    if isinstance(dtype, pl.List):
        return _leaves(dtype.inner)
    if isinstance(dtype, pl.Struct):
        return [leaf for part in dtype.fields for leaf in _leaves(part.dtype)]
    return [dtype]


def _require_columns(table: str, columns: Sequence[str], known: Sequence[str]) -> None:
    missing = [name for name in columns if name not in known]
    if missing:
        raise TableError(f"table {table!r} has no column {', '.join(missing)}; it has {', '.join(known)}")


def _type(columns: Mapping[str, object], name: str) -> str:
    return str(columns.get(name, "none"))


def _pause(attempt: int) -> None:
    """Wait longer after each conflict, and at random: writers that met once should not meet again."""
    time.sleep(random.random() * min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**attempt))
