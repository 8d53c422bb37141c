"""The compiled loop of the query features."""

import math

import numpy as np
from numpy.typing import NDArray

from features.similarity_kernels import dot, lengths
from features.state.compiled import compiled

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Vectors = NDArray[np.int16]
SHARPNESS = 10.0
"""Of the weights exp(10 · cosine) with which past queries vote."""


@compiled
def matches(
    at: Ints, start: Ints, item: Ints, version: Ints, vectors: Vectors, length: Ints, query: Ints, typed: Vectors,
    characters: Floats, same: Ints, texts: Vectors, text_length: Ints, past_at: Ints, past_query: Ints,
    past_item: Ints, items: int, most: int, nearest: int, forget: int,
) -> Floats:  # fmt: skip
    """`features.queries.COLUMNS`, [column, candidate]; NaN without a query, text or past.

    List n shows items `item[start[n]:start[n + 1]]` in versions `version`, rows of `vectors` (-1: unknown), after the
    query `query[n]`, a row of `typed` (-1: none). The past, in order of time: a click on `past_item` after the query
    `past_query`, a row of `texts`, known at `past_at`. `same`: the row of `texts` with the text of each row of `typed`,
    or -1. The `most` latest clicks known strictly before the list count, none older than `forget` microseconds.
    """
    out = np.full((6, item.size), np.nan)
    cosine, met = np.empty(text_length.size), np.full(text_length.size, -1)
    greatest, share, clicks = np.full(items, np.nan), np.zeros(items), np.zeros(items)
    best, voters = np.empty(nearest), np.empty(nearest, np.int64)
    typed_length = lengths(typed)
    for row in range(at.size):
        own = query[row]
        if own < 0:
            continue
        end = np.searchsorted(past_at, at[row])
        begin = max(np.searchsorted(past_at, at[row] - forget), end - most)
        found, repeats = 0, 0
        for past in range(end - 1, begin - 1, -1):
            other, chosen = past_query[past], past_item[past]
            if other == same[own]:
                repeats += 1
                clicks[chosen] += 1
            if met[other] != row:
                met[other] = row
                cosine[other] = _cosine(typed, own, typed_length, texts, other, text_length)
            near = cosine[other]
            if np.isnan(near):
                continue
            if not near <= greatest[chosen]:
                greatest[chosen] = near
            found = _insert(best, voters, found, near, chosen)
        weights = np.exp(SHARPNESS * (best[:found] - best[:1]))
        for n in range(found):
            share[voters[n]] += weights[n] / weights.sum()
        for candidate in range(start[row], start[row + 1]):
            shown, chosen = version[candidate], item[candidate]
            if shown >= 0:
                out[0, candidate] = _cosine(typed, own, typed_length, vectors, shown, length)
            out[1, candidate] = greatest[chosen]
            if found:
                out[2, candidate] = share[chosen]
            out[3, candidate], out[4, candidate] = clicks[chosen], repeats
            out[5, candidate] = characters[own]
        for past in range(begin, end):
            greatest[past_item[past]] = np.nan
            share[past_item[past]] = clicks[past_item[past]] = 0.0
    return out


@compiled
def _insert(best: Floats, voters: Ints, found: int, near: float, chosen: int) -> int:
    """Insert a click into the nearest so far, the first `found` in descending order; return how many there are now."""
    if found == best.size and near <= best[found - 1]:
        return found
    place = min(found, best.size - 1)
    while place > 0 and best[place - 1] < near:
        best[place], voters[place] = best[place - 1], voters[place - 1]
        place -= 1
    best[place], voters[place] = near, chosen
    return min(found + 1, best.size)


@compiled
def _cosine(left: Vectors, a: int, left_length: Ints, right: Vectors, b: int, right_length: Ints) -> float:
    """The cosine of two vectors, given the squares of their lengths; NaN without text."""
    if not left_length[a] or not right_length[b]:
        return np.nan
    return dot(left, a, right, b) / math.sqrt(left_length[a] * right_length[b])
