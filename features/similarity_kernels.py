"""The compiled loops of text similarity, over vectors of 16-bit integers: their sums are exact in any order.

A unit vector is kept as its numbers times `UNIT`, rounded: as precise and as small as float16. By Cauchy–Schwarz a dot
product of two, and every part of its sum, fits 32 bits. A row of zeros is an item version without text.
"""

import math

import numpy as np
from numpy.typing import NDArray

from features.state.compiled import compiled

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Vectors = NDArray[np.int16]
UNIT = 16384
SHARPNESS = 5.0
"""Of the soft maximum: log(1 + Σ exp(5 · cosine))."""
_ROUNDER = 1.5 * 2**12
"""Adding and subtracting it leaves multiples of 2⁻⁴⁰: cosines that cancel in a list's sum then leave exactly 0."""


@compiled
def dot(left: Vectors, a: int, right: Vectors, b: int) -> np.int32:
    """The product of row `a` of some vectors and row `b` of others."""
    total = np.int32(0)
    for n in range(left.shape[1]):
        total = np.int32(total + np.int32(np.int32(left[a, n]) * np.int32(right[b, n])))
    return total


@compiled
def lengths(vectors: Vectors) -> Ints:
    """The square of each vector's length; 0 without text."""
    found = np.empty(vectors.shape[0], np.int64)
    for n in range(vectors.shape[0]):
        found[n] = dot(vectors, n, vectors, n)
    return found


@compiled
def running_means(
    at: Ints, start: Ints, version: Ints, vectors: Vectors, length: Ints, known_at: Ints, replaces: Ints,
    arrival: Ints, total: Ints, count: int,
) -> Vectors:  # fmt: skip
    """Mean vector of the texts shown strictly before each list; the catalogue's as long as none was.

    Candidates of list n are `version[start[n]:start[n + 1]]`, -1 for an unknown one. `total` and `count`: the sum and
    number of texts shown before the first list. `arrival`: versions in order of `known_at`; each takes the place of
    version `replaces`, or of none (-1).
    """
    means = np.zeros((at.size, vectors.shape[1]), np.int16)
    total, catalogue = total.copy(), np.zeros(vectors.shape[1], np.int64)
    size, arrived, added = 0, 0, 0
    for row in range(at.size):
        if row and at[row] == at[row - 1]:
            means[row] = means[row - 1]
            continue
        while at[added] < at[row]:
            for place in range(start[added], start[added + 1]):
                count += _add(total, vectors, length, version[place], 1)
            added += 1
        while not count and arrived < arrival.size and known_at[arrival[arrived]] < at[row]:
            size += _add(catalogue, vectors, length, arrival[arrived], 1)
            size += _add(catalogue, vectors, length, replaces[arrival[arrived]], -1)
            arrived += 1
        many, sums = (count, total) if count else (max(size, 1), catalogue)
        for n in range(sums.size):
            means[row, n] = round(sums[n] / many)
    return means


@compiled
def _add(total: Ints, vectors: Vectors, length: Ints, row: int, sign: int) -> int:
    """Add a version's vector to a sum, or take it away; by how much that raises the number of vectors in it."""
    if row < 0 or not length[row]:
        return 0
    for n in range(total.size):
        total[n] += sign * vectors[row, n]
    return sign


@compiled
def similarities(
    at: Ints, start: Ints, version: Ints, means: Vectors, vectors: Vectors, length: Ints, first: Ints,
    known_at: Ints, begin: Ints, end: Ints, item: Ints, since: Ints, skipped: NDArray[np.bool_], most: int,
    forget: int,
) -> Floats:  # fmt: skip
    """Mean, greatest and soft maximum of each candidate's cosines to what was clicked, then to what was skipped.

    [6, candidate], NaN without text or past. Vectors are compared as they lie around the list's row of `means`. A
    list's user has the moments `begin` to `end` (`item`, `since`, `skipped`), in order of time: the latest `most` of
    each kind count, and none older than `forget` microseconds. Versions of item n are the rows
    `first[n]:first[n + 1]`, by `known_at`.
    """
    width = vectors.shape[1]
    out = np.full((6, version.size), np.nan)
    past = np.empty((2 * most, width), np.int16)
    near, scale = np.empty(2 * most), np.empty(2 * most)
    met, sizes = np.zeros(2, np.int64), np.zeros(2, np.int64)
    for row in range(at.size):
        middle = dot(means, row, means, row)
        moment = begin[row] + np.searchsorted(since[begin[row] : end[row]], at[row]) - 1
        met[:] = sizes[:] = 0
        while moment >= begin[row] and at[row] - since[moment] <= forget:
            kind = 1 if skipped[moment] else 0
            if met[kind] < most:
                met[kind] += 1
                seen = first[item[moment] + 1] - 1
                while seen >= first[item[moment]] and known_at[seen] >= at[row]:
                    seen -= 1
                if seen >= first[item[moment]] and length[seen]:
                    place = kind * most + sizes[kind]
                    past[place] = vectors[seen]
                    near[place] = dot(vectors, seen, means, row)
                    scale[place] = _inverse(length[seen] - 2 * near[place] + middle)
                    sizes[kind] += 1
            elif met[1 - kind] == most:
                break
            moment -= 1
        for candidate in range(start[row], start[row + 1]):
            shown = version[candidate]
            if shown < 0 or not length[shown]:
                continue
            offset = middle - dot(vectors, shown, means, row)
            unit = _inverse(length[shown] + 2 * offset - middle)
            for kind in range(2):
                if not sizes[kind]:
                    continue
                total, greatest, soft = 0.0, -1.0, 1.0
                for place in range(kind * most, kind * most + sizes[kind]):
                    cosine = (dot(vectors, shown, past, place) + offset - near[place]) * unit * scale[place]
                    cosine = (cosine + _ROUNDER) - _ROUNDER
                    total += cosine
                    greatest = max(greatest, cosine)
                    soft += math.exp(SHARPNESS * cosine)
                out[3 * kind, candidate] = total / sizes[kind]
                out[3 * kind + 1, candidate] = greatest
                out[3 * kind + 2, candidate] = math.log(soft)
    return out


@compiled
def _inverse(square: float) -> float:
    """1 over a root; 0 for a vector that is the mean itself, which is then near to nothing."""
    return 1.0 / math.sqrt(square) if square > 0 else 0.0
