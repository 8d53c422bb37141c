"""A project's features compiled to reads and two programs: one run per list (impression), one per candidate.

Compiled once per project. Slices and live requests run the same plan, in blocks of whole lists; terms that all
candidates of a list share are computed once per list.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.catalogue.programs import OPERATIONS, Program, evaluate, sharing
from features.catalogue.term import Feature, Term
from features.state.counters import LISTWISE, SESSION_READS, Read
from features.state.layout import Layout
from features.state.passing import Chunk
from features.threads import each

Floats = NDArray[np.float64]
_BY_LIST = (*LISTWISE, "session", "list")


@dataclass(frozen=True)
class FeaturePlan:
    """The reads and programs that compute the columns of the features table."""

    columns: tuple[str, ...]
    by_list: tuple[Read, ...]
    by_candidate: tuple[Read, ...]
    """Reads; those of one grain and part are adjacent."""
    list_program: Program
    program: Program
    outputs: NDArray[np.int64]
    texts: bool
    """Whether any column uses text similarities."""
    grains: frozenset[str]
    """Grains that the columns read."""

    def evaluate(
        self,
        layout: Layout,
        chunk: Chunk,
        texts: NDArray[Any] | None,
        out: NDArray[np.floating[Any]],
        missing: NDArray[np.bool_],
    ) -> None:
        """Fill the chunk's columns of `out`, [column, candidate], with NaN for missing; set `missing` for such columns.

        `texts`: [similarity, candidate].
        """
        start = layout.start[chunk.lists.start : chunk.lists.stop + 1] - layout.start[chunk.lists.start]
        self._fill(layout, chunk, start, texts)
        programs, reads = (self.list_program, self.program), (chunk.by_list, chunk.by_candidate)
        lists, at = start.size - 1, chunk.candidates.start
        cuts = (0, lists // 2, lists)
        each(
            lambda part: evaluate(*programs, *reads, start, *part, self.outputs, out, at, missing),
            pairwise(cuts),
            chunk.expected.size,
        )

    def _fill(
        self, layout: Layout, chunk: Chunk, start: NDArray[np.int64], texts: NDArray[Any] | None
    ) -> None:
        """Add the reads that do not come from counters: of lists, item versions and texts."""
        at, sizes = layout.at[chunk.lists], np.diff(start)
        days, time_of_day = np.divmod(at, 86_400_000_000)
        of_list = {
            "as_of": at,
            "size": sizes,
            "hour": time_of_day // 3_600_000_000,
            "weekday": (days + 3) % 7 + 1,
        }
        for n, read in enumerate(self.by_list):
            if read.grain == "list":
                chunk.by_list[n] = of_list[read.name]
        version, described = layout.version[chunk.candidates], layout.described
        shared: dict[str, Floats] = {}
        for n, read in enumerate(self.by_candidate):
            if read.grain == "version":
                chunk.by_candidate[n] = described.column(read.name, read.part)[version]
            elif read.grain == "sharing":
                if read.part not in shared:
                    shared[read.part] = np.zeros((2, version.size))
                    values = described.values[read.part]
                    number = int(values.value.max(initial=-1)) + 1
                    sharing(version, values.start, values.value, start, number, *shared[read.part])
                chunk.by_candidate[n] = shared[read.part][0 if read.name == "shared" else 1]
            elif read.grain == "text" and texts is not None:
                chunk.by_candidate[n] = texts[int(read.name), chunk.candidates]


def compile_plan(features: Sequence[Feature], forms: Sequence[str], columns: Sequence[str]) -> FeaturePlan:
    """Compile the plan of `columns`: feature names, or `{name}_{form}` for a list-relative form."""
    terms = {feature.name: feature.value for feature in features}
    for form in forms:
        terms |= {f"{f.name}_{form}": Term(form, (f.value,)) for f in features if f.compared}
    return _Compiler([terms[name] for name in columns]).plan(tuple(columns))


class _Compiler:
    """Gives every distinct term one register, so that shared terms are computed once."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self._terms = terms
        self._listwise: dict[Term, bool] = {}
        every: dict[Term, None] = {}
        for term in terms:
            self._collect(term, every)
        reads = {term.leaf for term in every if term.op == "read"}
        grains = {read.grain for read in reads if isinstance(read, Read)}
        self._grains = frozenset(grains | ({"user"} if "session" in grains else set()))
        self._reads = tuple(
            tuple(
                sorted(
                    read for read in {*reads, *more} if isinstance(read, Read) and _listwise(read) is listwise
                )
            )
            for listwise, more in ((True, SESSION_READS), (False, ()))
        )
        self._constants: tuple[list[float], list[float]] = (
            *([*dict.fromkeys(t.leaf for t in every if isinstance(t.leaf, float))] for _ in range(2)),
        )  # type: ignore[assignment]
        self._code: tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]] = ([], [])
        self._registers: dict[tuple[Term, bool], int] = {}

    def plan(self, columns: tuple[str, ...]) -> FeaturePlan:
        outputs = np.array([self._register(term, listwise=False) for term in self._terms], np.int64)
        programs = [
            Program(np.array(constants), np.array(code, np.int64).reshape(-1, 3))
            for constants, code in zip(self._constants, self._code, strict=True)
        ]
        texts = any(read.grain == "text" for read in self._reads[1])
        by_list, by_candidate = self._reads
        return FeaturePlan(
            columns, by_list, by_candidate, programs[0], programs[1], outputs, texts, self._grains
        )

    def _collect(self, term: Term, every: dict[Term, None]) -> bool:
        """Add a term and its parts to `every`; return whether all candidates of a list share its value."""
        if term not in self._listwise:
            parts = [self._collect(part, every) for part in term.args]
            leaf_listwise = not isinstance(term.leaf, Read) or _listwise(term.leaf)
            self._listwise[term] = leaf_listwise and all(parts) and term.op not in _GROUPED
            every[term] = None
        return self._listwise[term]

    def _register(self, term: Term, *, listwise: bool) -> int:
        """The register of a term in the per-list (`listwise`) or per-candidate program."""
        key = term, listwise
        if key not in self._registers:
            self._registers[key] = self._new_register(term, listwise)
        return self._registers[key]

    def _new_register(self, term: Term, listwise: bool) -> int:
        side = 0 if listwise else 1
        reads, constants, code = self._reads[side], self._constants[side], self._code[side]
        if isinstance(term.leaf, float):
            return len(reads) + constants.index(term.leaf)
        if self._listwise[term] and not listwise:
            instruction = (OPERATIONS.index("expand"), self._register(term, listwise=True), 0)
        elif isinstance(term.leaf, Read):
            return reads.index(term.leaf)
        else:
            left, *right = [self._register(part, listwise=listwise) for part in term.args]
            instruction = (OPERATIONS.index(term.op), left, right[0] if right else left)
        code.append(instruction)
        return len(reads) + len(constants) + len(code) - 1


_GROUPED = ("sum", "z", "rank", "share", "best")


def _listwise(read: Read) -> bool:
    return read.grain in _BY_LIST
