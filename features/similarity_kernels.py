"""The compiled loops of text similarity, over vectors of 16-bit integers: their sums are exact in any order.

A unit vector is kept as its numbers times `UNIT`, rounded: as precise and as small as float16. By Cauchy–Schwarz a dot
product of two, and every part of its sum, fits 32 bits. A row of zeros is an item version without text.
"""

import math
from typing import Any

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
    out = np.full((6, version.size), np.nan)
    past, near, scale = np.empty((2, most), np.int64), np.empty((2, most)), np.empty((2, most))
    met, sizes = np.zeros(2, np.int64), np.zeros(2, np.int64)
    products = np.empty((np.diff(start).max() if at.size else 0, most), np.int32)
    cosines, powers = np.empty(most), np.empty(most)
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
                    place = sizes[kind]
                    past[kind, place] = seen
                    near[kind, place] = dot(vectors, seen, means, row)
                    scale[kind, place] = _inverse(length[seen] - 2 * near[kind, place] + middle)
                    sizes[kind] += 1
            elif met[1 - kind] == most:
                break
            moment -= 1
        shown = version[start[row] : start[row + 1]]
        for kind in range(2):
            size = sizes[kind]
            # A past vector is loaded once for all candidates, whose vectors stay in the processor's nearest cache.
            for place in range(size):
                for n in range(shown.size):
                    products[n, place] = dot(vectors, max(shown[n], 0), vectors, past[kind, place])
            for n in range(shown.size if size else 0):
                if shown[n] >= 0 and length[shown[n]]:
                    offset = middle - dot(vectors, shown[n], means, row)
                    unit = _inverse(length[shown[n]] + 2 * offset - middle)
                    figures = _summary(
                        products[n, :size], offset, near[kind], unit, scale[kind], cosines, powers
                    )
                    for form in range(3):
                        out[3 * kind + form, start[row] + n] = figures[form]
    return out


@compiled
def _summary(
    products: Ints,
    offset: "np.signedinteger[Any]",
    near: Floats,
    unit: float,
    scale: Floats,
    cosines: Floats,
    powers: Floats,
) -> tuple[float, float, float]:
    """Mean, maximum and soft maximum of a candidate's cosines; `cosines` and `powers` are overwritten."""
    for place in range(products.size):
        cosine = (products[place] + offset - near[place]) * unit * scale[place]
        cosines[place] = (cosine + _ROUNDER) - _ROUNDER
        powers[place] = _exp(SHARPNESS * cosines[place])
    total, greatest, soft = 0.0, -1.0, 1.0
    for place in range(products.size):
        total += cosines[place]
        soft += powers[place]
        greatest = max(greatest, cosines[place])
    return total / products.size, greatest, math.log(soft)


@compiled
def _exp(x: float) -> float:
    """The exponential of a number from -5 to 5, to 1e-9 of its size: `math.exp` is not computed several at a time."""
    x *= 1 / 32
    power = 1 + x * (1 + x * (1 / 2 + x * (1 / 6 + x * (1 / 24 + x * (1 / 120 + x * (1 / 720 + x / 5040))))))
    for _ in range(5):
        power *= power
    return power


@compiled
def _inverse(square: float) -> float:
    """1 over a root; 0 for a vector that is the mean itself, which is then near to nothing."""
    return 1.0 / math.sqrt(square) if square > 0 else 0.0
