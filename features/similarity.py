"""How near a candidate's text is to what the user clicked and skipped, seen from the mean text that was shown.

Text vectors share a large common part: raw cosines mostly say that all texts of a catalogue are alike. Cosines around
the mean of what was shown tell items apart.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.state.histories import SKIPPED
from features.state.moment import MomentState

if TYPE_CHECKING:
    from features.state.layout import Layout

COLUMNS = tuple(f"text_{past}_{form}" for past in ("clicked", "skipped") for form in ("mean", "max", "lse"))
MEAN_TEXT = "mean_text"
Vectors = NDArray[np.int16]
Ints = NDArray[np.int64]


def exposed(before: pl.DataFrame, layout: "Layout") -> pl.DataFrame:
    """`MomentState.exposed` after the lists of a layout."""
    found = layout.described.found
    times = np.bincount(layout.version[layout.version >= 0], minlength=found.height)
    fresh = found.select("item_id", "known_at", exposures=pl.Series(times, dtype=pl.Int64))
    every = pl.concat([before, fresh.filter(pl.col("exposures") > 0)])
    return every.group_by("item_id", "known_at").agg(pl.sum("exposures")).sort("item_id", "known_at")


def mean_text(state: MomentState, layout: "Layout", vectors: pl.DataFrame) -> pl.Series:
    """Mean vector of the texts shown strictly before each list of a layout; the catalogue's as long as none was.

    `vectors`: `schemas.ItemVectors`, of every version that was ever shown. An array of 16-bit integers a list, see
    `similarity_kernels`.
    """
    from features.similarity_kernels import running_means

    texts = _texts(state, layout, vectors)
    means = running_means(
        layout.at, layout.start, layout.version, texts.vectors, texts.length, *layout.described.arrivals(),
        texts.shown, texts.times,
    )  # fmt: skip
    return pl.Series(MEAN_TEXT, means, dtype=pl.Array(pl.Int16, means.shape[1]))


def text_similarity(
    state: MomentState, layout: "Layout", means: pl.Series, moments: pl.DataFrame, vectors: pl.DataFrame
) -> NDArray[np.float64]:
    """The `COLUMNS`, [column, candidate of the layout], NaN without text or past.

    `means`: as `mean_text` gives them. `moments`: `schemas.Moments` sorted by (user_id, known_at). The past is what was
    known strictly before the list, in the version known then, as candidates are.
    """
    from features.similarity_kernels import similarities

    texts, tables, settings = _texts(state, layout, vectors), state.counted, state.config.features
    runs = moments["user_id"].rle().struct.unnest()
    user, item = tables.users.encode(runs["value"]), tables.items.encode(moments["item_id"])
    begin, end = np.zeros((2, len(tables.users)), np.int64)
    end[user] = np.cumsum(runs["len"].to_numpy())
    begin[user] = end[user] - runs["len"].to_numpy()
    forget = settings.ttl.total_seconds() * 1e6
    return similarities(
        layout.at, layout.start, layout.version, means.to_numpy(writable=True), texts.vectors, texts.length,
        *layout.described.by_item(), begin[layout.user], end[layout.user], item,
        moments["known_at"].to_physical().to_numpy(writable=True),
        (moments["action"] == SKIPPED).to_numpy(writable=True), settings.text_history, int(forget),
    )  # fmt: skip


def layout_texts(state: MomentState, layout: "Layout", vectors: pl.DataFrame) -> tuple[Vectors, Ints]:
    """Vectors of a layout's item versions and the squares of their lengths."""
    return _texts(state, layout, vectors)[1:3]


class _Texts(NamedTuple):
    """The vectors of a layout's item versions, and the sum and number of those shown before it."""

    given: pl.DataFrame
    vectors: Vectors
    length: Ints
    shown: Ints
    times: int


def _texts(state: MomentState, layout: "Layout", given: pl.DataFrame) -> _Texts:
    from features.similarity_kernels import lengths

    kept: _Texts | None = layout.described.texts
    if kept is None or kept.given is not given:
        vectors = whole_vectors(layout.described.found, given)
        total, times = shown_sum(state.exposed, given)
        kept = layout.described.texts = _Texts(given, vectors, lengths(vectors), total, times)
    return kept


def shown_sum(exposed: pl.DataFrame, vectors: pl.DataFrame) -> tuple[Ints, int]:
    """Sum of the vectors of all texts shown (`MomentState.exposed`), and their number.

    Of integers: whatever the order, the sum is the same to the bit.
    """
    from features.similarity_kernels import lengths

    shown = whole_vectors(exposed, vectors)
    times = exposed["exposures"].to_numpy() * (lengths(shown) > 0)
    return np.array([times @ column for column in shown.T.astype(np.int64)]), int(times.sum())


def whole_vectors(versions: pl.DataFrame, vectors: pl.DataFrame) -> Vectors:
    """Vectors of item versions as whole numbers, a row each; zeros without text."""
    from features.similarity_kernels import UNIT

    width = vectors["vector"].list.len().max() if vectors.height else 1
    assert isinstance(width, int)
    matched = versions.select("item_id", "known_at").join(
        vectors, on=["item_id", "known_at"], how="left", maintain_order="left"
    )
    whole = np.zeros((versions.height, width), np.int16)
    known = matched["vector"].is_not_null().to_numpy()
    if known.any():
        unit = matched["vector"].drop_nulls().list.to_array(width).to_numpy()
        whole[known] = np.rint(unit / np.linalg.norm(unit, axis=1, keepdims=True) * UNIT)
    return whole
