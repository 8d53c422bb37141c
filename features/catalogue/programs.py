"""Compiled loops that run a plan's programs over blocks of whole impressions (lists), and list-relative forms.

Missing numbers are NaN. A register holds one number per row of a block. Instructions are rows
`(operation, left, right)`; each fills the next register.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.state.compiled import compiled

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
OPERATIONS = (
    "add", "subtract", "multiply", "divide", "at_least", "where_positive", "less", "log", "abs", "is_positive",
    "sum", "z", "rank", "share", "best", "expand",
)  # fmt: skip
(_ADD, _SUBTRACT, _MULTIPLY, _DIVIDE, _AT_LEAST, _WHERE, _LESS, _LOG, _ABS, _IS_POSITIVE,
 _SUM, _Z, _RANK, _SHARE, _BEST, _EXPAND) = range(len(OPERATIONS))  # fmt: skip
BLOCK = 512
"""Rows per block, or the size of the longest list if that is larger."""


class Program(NamedTuple):
    """Instructions over registers: first the reads, then constants, then one result per instruction."""

    constants: Floats
    instructions: Ints


@compiled
def evaluate(
    by_list: Program, by_candidate: Program, list_reads: Floats, reads: Floats, start: Ints, first: int, end: int,
    outputs: Ints, out: NDArray[np.float32], at: int, missing: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Run the per-list program, then the per-candidate program, block by block, for lists `first` to `end` (exclusive).

    Writes registers `outputs` to the rows of `out`, from column `at` on; sets `missing` for rows with any NaN.
    `list_reads` is [read, list], `reads` is [read, candidate]; list n has candidates `start[n]:start[n + 1]`.
    """
    longest = min(BLOCK, start[-1])
    for n in range(first, end):
        longest = max(longest, start[n + 1] - start[n])
    list_inputs = list_reads.shape[0] + by_list.constants.size
    lists = np.empty((list_inputs + by_list.instructions.shape[0], longest))
    for n in range(by_list.constants.size):
        lists[list_reads.shape[0] + n, :] = by_list.constants[n]
    inputs = reads.shape[0] + by_candidate.constants.size
    rows = np.empty((inputs + by_candidate.instructions.shape[0], longest))
    for n in range(by_candidate.constants.size):
        rows[reads.shape[0] + n, :] = by_candidate.constants[n]
    while first < end:
        until = first + 1
        while until < end and start[until + 1] - start[first] <= longest:
            until += 1
        offsets = start[first : until + 1] - start[first]
        for n in range(list_reads.shape[0]):
            _copy(list_reads[n, first:until], lists[n])
        for n in range(by_list.instructions.shape[0]):
            _apply(by_list.instructions[n], lists, list_inputs + n, until - first, offsets, lists)
        size = start[until] - start[first]
        for n in range(reads.shape[0]):
            _copy(reads[n, start[first] : start[until]], rows[n])
        for n in range(by_candidate.instructions.shape[0]):
            _apply(by_candidate.instructions[n], rows, inputs + n, size, offsets, lists)
        for n in range(outputs.size):
            values, gaps = rows[outputs[n], :size], 0
            _copy(values, out[n, at + start[first] : at + start[until]])
            for row in range(size):
                gaps += values[row] != values[row]
            if gaps:
                missing[n] = True
        first = until


@compiled
def _copy(values: Floats, out: NDArray[np.floating]) -> None:
    for n in range(values.size):
        out[n] = values[n]


@compiled
def _apply(instruction: Ints, registers: Floats, to: int, size: int, offsets: Ints, lists: Floats) -> None:  # noqa: PLR0912
    operation, out = instruction[0], registers[to]
    if operation == _EXPAND:
        values = lists[instruction[1]]
        for n in range(offsets.size - 1):
            value = values[n]
            for row in range(offsets[n], offsets[n + 1]):
                out[row] = value
        return
    left, right = registers[instruction[1]], registers[instruction[2]]
    if operation == _ADD:
        for n in range(size):
            out[n] = left[n] + right[n]
    elif operation == _SUBTRACT:
        for n in range(size):
            out[n] = left[n] - right[n]
    elif operation == _MULTIPLY:
        for n in range(size):
            out[n] = left[n] * right[n]
    elif operation == _DIVIDE:
        for n in range(size):
            out[n] = left[n] / right[n] if right[n] != 0 else np.nan
    elif operation == _AT_LEAST:
        for n in range(size):
            out[n] = right[n] if left[n] < right[n] else left[n]
    elif operation == _WHERE:
        for n in range(size):
            out[n] = left[n] if right[n] > 0 else np.nan
    elif operation == _LESS:
        for n in range(size):
            out[n] = left[n] - right[n]
            if abs(out[n]) <= 1e-6 * abs(left[n]):
                out[n] = 0.0
    elif operation == _LOG:
        for n in range(size):
            out[n] = math.log(left[n]) if left[n] > 0 else np.nan
    elif operation == _ABS:
        for n in range(size):
            out[n] = abs(left[n])
    elif operation == _IS_POSITIVE:
        for n in range(size):
            out[n] = 1.0 if left[n] > 0 else 0.0
    else:
        for n in range(offsets.size - 1):
            compare(operation, left[offsets[n] : offsets[n + 1]], out[offsets[n] : offsets[n + 1]])


@compiled
def compare(form: int, values: Floats, out: Floats) -> None:
    """Compute one list-relative form or the sum of one list's values."""
    count, total, least, greatest = 0, 0.0, np.inf, -np.inf
    for value in values:
        if not np.isnan(value):
            count += 1
            total += value
            least, greatest = min(least, value), max(greatest, value)
    if form == _SUM:
        out[:] = total
    elif form == _BEST:
        for n in range(values.size):
            out[n] = values[n] - greatest
    elif form == _SHARE:
        for n in range(values.size):
            out[n] = values[n] / total if total > 0 else values[n] * 0.0
    elif form == _RANK:
        _rank(values, out)
    else:
        mean, squares = total / max(count, 1), 0.0
        for value in values:
            if not np.isnan(value):
                squares += (value - mean) * (value - mean)
        spread = math.sqrt(squares / max(count, 1))
        # Smaller differences are rounding.
        equal = spread == 0 or spread <= 1e-5 * max(greatest, -least)
        for n in range(values.size):
            out[n] = values[n] * 0.0 if equal else (values[n] - mean) / spread


@compiled
def _rank(values: Floats, out: Floats) -> None:
    """Rank, 1 for the greatest. Compared as Float32: rounding in sums must not break ties."""
    ascending = np.sort(values.astype(np.float32))
    count = ascending.size
    while count > 0 and np.isnan(ascending[count - 1]):
        count -= 1
    for n in range(values.size):
        if np.isnan(values[n]):
            out[n] = np.nan
        else:
            out[n] = 1.0 + count - np.searchsorted(ascending[:count], np.float32(values[n]), side="right")


@compiled
def compare_all(form: int, values: Floats, start: Ints, out: Floats) -> None:
    """`compare` for each list, `values[start[n]:start[n + 1]]`."""
    for n in range(start.size - 1):
        compare(form, values[start[n] : start[n + 1]], out[start[n] : start[n + 1]])


@compiled
def sharing(
    owner: Ints, first: Ints, value: Ints, start: Ints, values: int, shared: Floats, distinct: Floats
) -> None:
    """Add to `shared` how many of the list's candidates have each value of a candidate, and to `distinct` 1 over that.

    Both are summed over a candidate's values, `value[first[owner]:first[owner + 1]]`; owner -1 has none. The sum of
    `distinct` over a list is its number of distinct values. List n has candidates `start[n]:start[n + 1]`.
    """
    counts = np.zeros(values, np.int64)
    for n in range(start.size - 1):
        for sign in (1, 0, -1):
            for row in range(start[n], start[n + 1]):
                own = owner[row]
                if own >= 0:
                    for at in range(first[own], first[own + 1]):
                        if sign:
                            counts[value[at]] += sign
                        else:
                            shared[row] += counts[value[at]]
                            distinct[row] += 1.0 / counts[value[at]]
