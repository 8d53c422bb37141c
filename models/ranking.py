"""Rank scored candidates: the only sort and tie-break.

Within a group, higher scores come first; ties are in the order of a hash of their item ids. The hash is BLAKE2b, the
same on every machine and version, so ranks do not depend on the order of rows, and no item gains from the alphabet.
"""

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

import polars as pl

from features.errors import ModelError, TableError


def require(frame: pl.DataFrame, columns: Sequence[str], reader: str) -> None:
    """Raise TableError, naming the missing columns, unless `frame` has all of `columns`."""
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise TableError(
            f"{reader} needs the columns {', '.join(missing)}, but the table has {', '.join(frame.columns)}: "
            "add them to the table before the call"
        )


def stable_hash(ids: pl.Series, seed: int = 0) -> pl.Series:
    """UInt64 hash of each id, the same on every machine; it depends on the seed."""
    unique = ids.cast(pl.String).unique()
    hashes = [_hash(text, seed) for text in unique]
    return ids.cast(pl.String).replace_strict(unique, pl.Series(hashes, dtype=pl.UInt64))


def order_of(items: Sequence[str], scores: Sequence[float]) -> list[int]:
    """Row numbers of one list's items as `order` ranks them."""
    same = Counter(scores)
    return sorted(
        range(len(items)),
        key=lambda n: (-scores[n], _hash(items[n]) if same[scores[n]] > 1 else 0, items[n]),
    )


def _hash(text: str, seed: int = 0) -> int:
    salt = seed.to_bytes(16, "little", signed=True)
    return int.from_bytes(blake2b(text.encode(), digest_size=8, salt=salt).digest(), "little")


def order(frame: pl.DataFrame, by: str = "impression_id", score: str = "score") -> pl.DataFrame:
    """Rank the rows of each group: `frame` with Int32 `rank` from 1, sorted by (`by`, `rank`).

    `frame` has the group `by`, `item_id` (unique within a group) and a numeric `score` column. Raises TableError if a
    column is missing, ModelError if a score is null or NaN.
    """
    require(frame, (by, "item_id", score), "ranking")
    invalid = frame.select((pl.col(score).is_null() | pl.col(score).cast(pl.Float64).is_nan()).sum()).item()
    if invalid:
        raise ModelError(
            f"{invalid} of {frame.height} rows have no number in {score!r}, but every candidate needs a score: "
            "check the features of these rows, or score them with another model"
        )
    tie_break = stable_hash(frame["item_id"])
    return (
        frame.with_columns(tie_break.alias("__tie_break"))
        .sort(
            by, score, "__tie_break", "item_id", descending=[False, True, False, False], maintain_order=True
        )
        .drop("__tie_break")
        .with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over(by).alias("rank"))
    )


def top(frame: pl.DataFrame, k: int, by: str = "impression_id", score: str = "score") -> pl.DataFrame:
    """The first `k` rows of each group, ranked by `order`."""
    return order(frame, by, score).filter(pl.col("rank") <= k)
