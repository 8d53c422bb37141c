"""Hash buckets of ids, stable across machines and library versions."""

from zlib import crc32

import polars as pl


def bucket(ids: pl.Series, buckets: int) -> pl.Series:
    """`bucket` (Int32, from 0) of each id: CRC-32 modulo `buckets`; null has bucket 0.

    Not a library's own hash: those change between versions, and stored rows must stay in their bucket.
    """
    distinct = ids.unique().drop_nulls().cast(pl.String)
    codes = pl.Series("bucket", [crc32(name.encode()) % buckets for name in distinct], dtype=pl.Int32)
    numbered = distinct.to_frame("id").with_columns(codes)
    joined = ids.cast(pl.String).to_frame("id").join(numbered, on="id", how="left", maintain_order="left")
    return joined["bucket"].fill_null(0)
