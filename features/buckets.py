"""Which bucket a person or a key belongs to: the same on every machine, in every version of every library."""

from zlib import crc32

import polars as pl


def bucket(ids: pl.Series, buckets: int) -> pl.Series:
    """`bucket` (Int32, from 0) of each id: its CRC-32, a standard, modulo the number of buckets.

    Libraries' own hashes differ from version to version, and rows written by one must be found by the next.
    Null has bucket 0.
    """
    distinct = ids.unique().drop_nulls().cast(pl.String)
    codes = pl.Series("bucket", [crc32(name.encode()) % buckets for name in distinct], dtype=pl.Int32)
    numbered = distinct.to_frame("id").with_columns(codes)
    asked = ids.cast(pl.String).to_frame("id")
    found = asked.join(numbered, on="id", how="left", maintain_order="left")["bucket"]
    return found.fill_null(0)
