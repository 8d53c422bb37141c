"""How near a candidate's text is to what the user lately took and passed over."""

from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.point_in_time import known_before
from features.state.histories import PASSED
from features.versions import see

COLUMNS = (
    "text_clicked_mean",
    "text_clicked_max",
    "text_clicked_last",
    "text_passed_mean",
    "text_passed_max",
    "text_passed_last",
)
_BATCH = 512  # impressions at a time: a few hundred MB at 300 candidates of 384 numbers


def text_similarity(
    queries: pl.DataFrame,
    moments: pl.DataFrame,
    versions: pl.DataFrame,
    vectors: pl.DataFrame,
    recent: int,
    forget: timedelta,
) -> pl.DataFrame:
    """Cosine similarities of each candidate to the user's last `recent` taken and passed-over items.

    `queries`: impression_id, user_id, item_id, as_of, version (row of `versions`, or null). `moments`:
    `schemas.Moments` sorted by (user_id, known_at); only those known in [as_of − `forget`, as_of) are read. `vectors`:
    `schemas.ItemVectors`. Returns the `COLUMNS`, Float32, row for row; null where there is no text or past.
    """
    matrix = _matrix(versions, vectors)
    rows = queries.select("impression_id", "user_id", "as_of", "version").with_row_index("row")
    lists = rows.group_by("impression_id", "user_id", "as_of", maintain_order=True).agg("row", "version")
    is_passed = pl.col("action") == PASSED
    taken, passed = (
        _similarities(lists, _history(lists, moments.filter(which), versions, recent, forget), matrix)
        for which in (~is_passed, is_passed)
    )
    values = np.full((queries.height, len(COLUMNS)), np.nan, np.float32)
    order = lists["row"].explode().to_numpy()
    values[order] = np.column_stack([taken, passed])
    return pl.DataFrame(values, schema=list(COLUMNS), orient="row").fill_nan(None)


def _matrix(versions: pl.DataFrame, vectors: pl.DataFrame) -> NDArray[np.float32]:
    """Unit vectors by row of `versions`; a last row of NaN stands for "no text"."""
    width = vectors["vector"].list.len().max() if vectors.height else 1
    assert isinstance(width, int)
    matched = versions.select("item_id", "known_at").join(
        vectors, on=["item_id", "known_at"], how="left", maintain_order="left"
    )
    matrix = np.full((versions.height + 1, width), np.nan, np.float32)
    known = matched["vector"].is_not_null().to_numpy()
    if known.any():
        matrix[:-1][known] = matched["vector"].drop_nulls().list.to_array(width).to_numpy()
    return matrix


def _similarities(
    lists: pl.DataFrame, history: NDArray[np.int64], matrix: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Mean, max and last similarity, one row a candidate in the order of `lists`."""
    sizes = lists["version"].list.len().to_numpy()
    out = np.full((int(sizes.sum()), 3), np.nan, np.float32)
    ends = np.cumsum(sizes)
    for first in range(0, lists.height, _BATCH):
        batch = slice(first, min(first + _BATCH, lists.height))
        size = sizes[batch]
        inside = np.arange(size.max())[None, :] < size[:, None]
        candidates = np.full(inside.shape, -1)
        candidates[inside] = lists["version"][batch].explode().fill_null(-1).to_numpy()
        near = np.einsum("icd,ihd->ich", matrix[candidates], matrix[history[batch]], optimize=True)
        near = np.where(inside[:, :, None], near, np.nan)[inside]
        some = ~np.isnan(near).all(axis=1)
        block = np.full((near.shape[0], 3), np.nan, np.float32)
        block[some, 0] = np.nanmean(near[some], axis=1)
        block[some, 1] = np.nanmax(near[some], axis=1)
        block[:, 2] = near[:, -1]
        out[ends[first] - sizes[first] : ends[batch.stop - 1]] = block
    return out


def _history(
    lists: pl.DataFrame, past: pl.DataFrame, versions: pl.DataFrame, recent: int, forget: timedelta
) -> NDArray[np.int64]:
    """Item versions of each impression's last `recent` moments, right-aligned, -1 where there are fewer.

    A past item is read in the version known before the impression, as the candidates are.
    """
    positions = past.with_row_index("position")
    starts = positions.group_by("user_id").agg(start=pl.col("position").min())
    bounds = known_before(
        lists.select("user_id", "as_of"),
        positions.select("user_id", "known_at", "position"),
        "as_of",
        "known_at",
        by="user_id",
    ).join(starts, on="user_id", how="left", maintain_order="left")
    last = bounds["position"].cast(pl.Int64).fill_null(-1).to_numpy()
    start = bounds["start"].cast(pl.Int64).fill_null(0).to_numpy()
    place = last[:, None] - np.arange(recent)[::-1][None, :]
    held = (place >= start[:, None]) & (last >= 0)[:, None]
    remembered = pl.DataFrame(
        {
            "item_id": past["item_id"].gather(place[held]),
            "since": past["known_at"].gather(place[held]),
            "as_of": bounds["as_of"].gather(np.nonzero(held)[0]),
        }
    )
    history = np.full(held.shape, -1)
    lately = pl.col("as_of") - pl.col("since") <= forget
    seen = see(remembered, versions, "as_of").select(pl.when(lately).then("version")).to_series()
    history[held] = seen.cast(pl.Int64).fill_null(-1).to_numpy()
    return history
