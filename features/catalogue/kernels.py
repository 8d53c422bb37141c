"""The compiled loops of the catalogue: a plan's program over blocks of whole lists, and what lists are compared by.

A missing number is NaN. A register holds one number for each row of a block; instructions are rows
`(operation, left, right)`, and each fills the next register.
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
"""Rows that a block has room for, unless one list has more."""


class Program(NamedTuple):
    """Instructions over registers: first what is read, then constants, then what instructions make."""

    constants: Floats
    instructions: Ints


@compiled
def evaluate(
    by_list: Program, by_candidate: Program, list_reads: Floats, reads: Floats, start: Ints, first: int, end: int,
    outputs: Ints, out: NDArray[np.float32], at: int, missing: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Run the lists' program, then the candidates', block by block, for the lists from `first` to before `end`.

    Registers `outputs` go into the rows of `out`, from column `at` on; `missing` notes which rows hold any NaN.
    `list_reads` is [read, list], `reads` [read, candidate]; list n has the candidates `start[n]:start[n + 1]`.
    """
    longest = min(BLOCK, start[-1])
    for n in range(first, end):
        longest = max(longest, start[n + 1] - start[n])
    fixed = list_reads.shape[0] + by_list.constants.size
    lists = np.empty((fixed + by_list.instructions.shape[0], longest))
    for n in range(by_list.constants.size):
        lists[list_reads.shape[0] + n, :] = by_list.constants[n]
    held = reads.shape[0] + by_candidate.constants.size
    rows = np.empty((held + by_candidate.instructions.shape[0], longest))
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
            _apply(by_list.instructions[n], lists, fixed + n, until - first, offsets, lists)
        size = start[until] - start[first]
        for n in range(reads.shape[0]):
            _copy(reads[n, start[first] : start[until]], rows[n])
        for n in range(by_candidate.instructions.shape[0]):
            _apply(by_candidate.instructions[n], rows, held + n, size, offsets, lists)
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
    """Set each value of one list beside the others, in one of the forms of `relative.py`, or replace it by the sum."""
    known, total, least, greatest = 0, 0.0, np.inf, -np.inf
    for value in values:
        if not np.isnan(value):
            known += 1
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
        mean, squares = total / max(known, 1), 0.0
        for value in values:
            if not np.isnan(value):
                squares += (value - mean) * (value - mean)
        spread = math.sqrt(squares / max(known, 1))
        # Closer than that, rounding decides.
        equal = spread == 0 or spread <= 1e-5 * max(greatest, -least)
        for n in range(values.size):
            out[n] = values[n] * 0.0 if equal else (values[n] - mean) / spread


@compiled
def _rank(values: Floats, out: Floats) -> None:
    """1 for the greatest; in Float32, so that equal numbers are not parted by the order of sums."""
    sorted_up = np.sort(values.astype(np.float32))
    known = sorted_up.size
    while known > 0 and np.isnan(sorted_up[known - 1]):
        known -= 1
    for n in range(values.size):
        if np.isnan(values[n]):
            out[n] = np.nan
        else:
            out[n] = 1.0 + known - np.searchsorted(sorted_up[:known], np.float32(values[n]), side="right")


@compiled
def compare_all(form: int, values: Floats, start: Ints, out: Floats) -> None:
    """`compare` for each list, `values[start[n]:start[n + 1]]`."""
    for n in range(start.size - 1):
        compare(form, values[start[n] : start[n + 1]], out[start[n] : start[n + 1]])


@compiled
def sharing(
    owner: Ints, first: Ints, value: Ints, start: Ints, values: int, shared: Floats, distinct: Floats
) -> None:
    """How many of a list's candidates have each of a candidate's values; and its part in the list's distinct values.

    Candidates are in lists by `start`; the values of one are those of its owner (-1: none), `value[first[owner]:…]`.
    Both are summed over a candidate's values.
    """
    times = np.zeros(values, np.int64)
    for n in range(start.size - 1):
        for sign in (1, 0, -1):
            for row in range(start[n], start[n + 1]):
                own = owner[row]
                if own >= 0:
                    for at in range(first[own], first[own + 1]):
                        if sign:
                            times[value[at]] += sign
                        else:
                            shared[row] += times[value[at]]
                            distinct[row] += 1.0 / times[value[at]]
