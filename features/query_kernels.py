"""The compiled loop of the query features."""

import math

import numpy as np
from numpy.typing import NDArray

from features.similarity_kernels import dot
from features.state.compiled import compiled

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Vectors = NDArray[np.int16]
SHARPNESS = 10.0
"""Of the weights exp(10 · cosine) with which past queries vote."""


@compiled
def matches(
    at: Ints, start: Ints, item: Ints, version: Ints, vectors: Vectors, length: Ints, query: Ints, characters: Floats,
    queries: Vectors, query_length: Ints, past_at: Ints, past_query: Ints, past_item: Ints, items: int, most: int,
    nearest: int, forget: int,
) -> Floats:  # fmt: skip
    """`features.queries.COLUMNS`, [column, candidate]; NaN without a query, text or past.

    List n shows items `item[start[n]:start[n + 1]]` in versions `version`, rows of `vectors` (-1: unknown), after the
    query `query[n]`, a row of `queries` (-1: none), of `characters[n]` characters. The past, in order of time: a click
    on `past_item` after the query `past_query`, known at `past_at`. The `most` latest clicks known strictly before the
    list count, none older than `forget` microseconds.
    """
    out = np.full((6, item.size), np.nan)
    cosine, compared_in = np.empty(query_length.size), np.full(query_length.size, -1)
    greatest, share, clicks = np.full(items, np.nan), np.zeros(items), np.zeros(items)
    best, voters = np.empty(nearest), np.empty(nearest, np.int64)
    for row in range(at.size):
        own = query[row]
        if own < 0:
            continue
        end = np.searchsorted(past_at, at[row])
        begin = max(np.searchsorted(past_at, at[row] - forget), end - most)
        count, repeats = 0, 0
        for past in range(end - 1, begin - 1, -1):
            other, clicked = past_query[past], past_item[past]
            if other == own:
                repeats += 1
                clicks[clicked] += 1
            if compared_in[other] != row:
                compared_in[other] = row
                cosine[other] = _cosine(queries, own, query_length, queries, other, query_length)
            near = cosine[other]
            if np.isnan(near):
                continue
            if not near <= greatest[clicked]:
                greatest[clicked] = near
            count = _insert(best, voters, count, near, clicked)
        weights = np.exp(SHARPNESS * (best[:count] - best[:1]))
        for n in range(count):
            share[voters[n]] += weights[n] / weights.sum()
        for candidate in range(start[row], start[row + 1]):
            shown = version[candidate]
            if shown >= 0:
                out[0, candidate] = _cosine(queries, own, query_length, vectors, shown, length)
            out[1, candidate] = greatest[item[candidate]]
            if count:
                out[2, candidate] = share[item[candidate]]
            out[3, candidate], out[4, candidate] = clicks[item[candidate]], repeats
            out[5, candidate] = characters[row]
        for past in range(begin, end):
            greatest[past_item[past]] = np.nan
            share[past_item[past]] = clicks[past_item[past]] = 0.0
    return out


@compiled
def _insert(best: Floats, voters: Ints, count: int, near: float, item: int) -> int:
    """Insert a click into the nearest so far, the first `count` in descending order; return their new number."""
    if count == best.size and near <= best[count - 1]:
        return count
    slot = min(count, best.size - 1)
    while slot > 0 and best[slot - 1] < near:
        best[slot], voters[slot] = best[slot - 1], voters[slot - 1]
        slot -= 1
    best[slot], voters[slot] = near, item
    return min(count + 1, best.size)


@compiled
def _cosine(left: Vectors, a: int, left_length: Ints, right: Vectors, b: int, right_length: Ints) -> float:
    """The cosine of two vectors, given the squares of their lengths; NaN without text."""
    if not left_length[a] or not right_length[b]:
        return np.nan
    return dot(left, a, right, b) / math.sqrt(left_length[a] * right_length[b])
