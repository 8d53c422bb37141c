"""Column checks: types must survive Delta, and columns must match the table's."""

from collections.abc import Sequence
from zlib import crc32

import polars as pl
from deltalake import Schema
from polars.datatypes import DataTypeClass

from features.errors import TableError
from features.schemas import INSTANT

SLICE = "slice"
"""The partition column of every table."""

# Delta has no unsigned, categorical, array, duration or time types: it would return other types.
_LOSSLESS_TYPES = (
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
    INSTANT,
)


def without_slice(table: str, slice: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Drop the `slice` column, if any. Raises TableError for rows of other slices."""
    if SLICE not in frame.columns:
        return frame
    others = frame.filter(pl.col(SLICE).ne_missing(slice))[SLICE].unique().to_list()
    if others:
        raise TableError(
            f"slice {slice!r} of table {table!r} got rows of other slices: {others[:3]}; write each slice separately"
        )
    return frame.drop(SLICE)


def refuse_lossy_types(table: str, frame: pl.DataFrame) -> None:
    """Raise TableError for the first column whose type Delta would change."""
    for name, dtype in frame.schema.items():
        for leaf in _leaves(dtype):
            if leaf not in _LOSSLESS_TYPES:
                raise TableError(
                    f"column {name!r} of table {table!r} is {dtype}, but Delta cannot store {leaf}: "
                    "cast it to signed integers, floats, Boolean, String, Binary, Date, Datetime(us, UTC), "
                    "or List and Struct of these"
                )


def column_order(table: str, location: str, stored: Schema, written: Schema) -> list[str]:
    """The table's column names in order, without `slice`. Raises TableError if names or types of `written` differ."""
    old = {column.name: column.type for column in stored.fields}
    new = {column.name: column.type for column in written.fields}
    if old != new:
        differing = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        raise TableError(
            f"the slice being written has other columns than table {table!r}: "
            + "; ".join(
                f"{c}: {old.get(c, 'none')} in the table, {new.get(c, 'none')} in the slice"
                for c in differing[:5]
            )
            + f". If the project changed on purpose, remove {location} and run all slices "
            "again; to keep both, set MOMENTRANK_HOME to another folder"
        )
    return [name for name in old if name != SLICE]


def fingerprint(schema: Schema) -> int:
    """Checksum of a schema: column names, order and types."""
    return crc32(schema.to_json().encode())


def require_columns(table: str, columns: Sequence[str], existing: Sequence[str]) -> None:
    """Raise TableError for columns that the table does not have."""
    missing = [name for name in columns if name not in existing]
    if missing:
        raise TableError(f"table {table!r} has no column {', '.join(missing)}; it has {', '.join(existing)}")


def _leaves(dtype: DataTypeClass | pl.DataType) -> list[DataTypeClass | pl.DataType]:
    if isinstance(dtype, pl.List):
        return _leaves(dtype.inner)
    if isinstance(dtype, pl.Struct):
        return [leaf for part in dtype.fields for leaf in _leaves(part.dtype)]
    return [dtype]
