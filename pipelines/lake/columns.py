"""What columns the lake takes: those that Delta gives back as they were, and that the table has."""

from collections.abc import Mapping, Sequence
from zlib import crc32

import polars as pl
from deltalake import Schema
from polars.datatypes import DataTypeClass

from features.errors import TableError

SLICE = "slice"
"""The column by which every table is partitioned."""

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


def without_slice(table: str, slice: str, frame: pl.DataFrame) -> pl.DataFrame:
    """`frame` without its column `slice`; TableError where that names another slice than `slice`."""
    if SLICE not in frame.columns:
        return frame
    others = frame.filter(pl.col(SLICE).ne_missing(slice))[SLICE].unique().to_list()
    if others:
        raise TableError(f"slice {slice!r} of table {table!r} was given rows of other slices: {others[:3]}")
    return frame.drop(SLICE)


def refuse_lossy_types(table: str, frame: pl.DataFrame) -> None:
    """TableError for the first column with a type that Delta cannot give back."""
    for name, dtype in frame.schema.items():
        for leaf in _leaves(dtype):
            if leaf not in _KEPT_TYPES:
                raise TableError(
                    f"column {name!r} of table {table!r} is {dtype}, and Delta cannot give {leaf} back: "
                    "cast it to signed integers, floats, Boolean, String, Binary, Date, Datetime(us, UTC), "
                    "or List and Struct of these"
                )


def in_order(table: str, location: str, kept: Schema, given: Schema) -> list[str]:
    """Names of a table's columns but `slice`, in its order; TableError where the given ones differ."""
    stored = {column.name: column.type for column in kept.fields}
    written = {column.name: column.type for column in given.fields}
    if stored != written:
        differing = sorted(
            name for name in stored.keys() | written.keys() if stored.get(name) != written.get(name)
        )
        raise TableError(
            f"table {table!r} has other columns than the slice being written: "
            + "; ".join(f"{c}: {_type(stored, c)} there, {_type(written, c)} here" for c in differing[:5])
            + f". If the project changed on purpose, remove {location} and run all slices "
            "again; to keep both, set MOMENTRANK_HOME to another folder"
        )
    return [name for name in stored if name != SLICE]


def fingerprint(schema: Schema) -> int:
    """Tells one table's columns, their order and types from another's."""
    return crc32(schema.to_json().encode())


def require_columns(table: str, columns: Sequence[str], known: Sequence[str]) -> None:
    """TableError that names what a table lacks of `columns`."""
    missing = [name for name in columns if name not in known]
    if missing:
        raise TableError(f"table {table!r} has no column {', '.join(missing)}; it has {', '.join(known)}")


def _leaves(dtype: DataTypeClass | pl.DataType) -> list[DataTypeClass | pl.DataType]:
    if isinstance(dtype, pl.List):
        return _leaves(dtype.inner)
    if isinstance(dtype, pl.Struct):
        return [leaf for part in dtype.fields for leaf in _leaves(part.dtype)]
    return [dtype]


def _type(columns: Mapping[str, object], name: str) -> str:
    return str(columns.get(name, "none"))
