"""A ranker and an interest model for live requests: batch's computations on one impression at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import ModelError
from features.live import Answer, Request
from features.ranking_dataset import INTEREST
from models.interest_input import item_arrays
from models.ranker import Ranker
from models.ranking import order_of

if TYPE_CHECKING:
    from models.interest.item_arrays import ItemArrays
    from models.interest.live_scorer import LiveScorer


@dataclass(frozen=True)
class Ranked:
    """Scores in the order of the request's candidates."""

    score: NDArray[np.float64]
    interest: NDArray[np.float32]
    """NaN without an interest model."""
    columns: NDArray[np.float32]
    """[candidate, column of the ranker]."""
    order: list[int]
    """Numbers of the candidates, best first."""


class LiveModels:
    """The models of one champion, loaded once."""

    def __init__(
        self, ranker: Ranker, interest: Path | None, found: pl.DataFrame, numbers: Sequence[str], cache: Path
    ) -> None:
        """`interest`: folder of a version; `found`: `LiveMoments.described.found`; `numbers`: the declared ones.

        Raises ModelError.
        """
        self.ranker, self._numbers, self._found = ranker, numbers, found
        self.scorer = None if interest is None else self._scorer(interest, cache)

    def _scorer(self, interest: Path, cache: Path) -> "LiveScorer":
        from models.interest.live_scorer import LiveScorer
        from models.interest.version import InterestModel

        return LiveScorer(InterestModel.load(interest), self._arrays(self._found, blank=True), cache)

    @cached_property
    def _interest_columns(self) -> dict[str, int]:
        return {name: n for n, name in enumerate(self.ranker.columns) if name in (INTEREST, f"{INTEREST}_z")}

    def require(self, columns: tuple[str, ...]) -> None:
        """Raise ModelError unless `columns` has every feature that the ranker was fitted on."""
        missing = set(self.ranker.columns) - {*columns, INTEREST, f"{INTEREST}_z"}
        if missing:
            raise ModelError(
                f"the ranker reads {', '.join(sorted(missing)[:5])}, which this project's features do not have: "
                "serve with the project file that it was fitted with, or fit again with `momentrank run`"
            )

    def describe(self, found: pl.DataFrame) -> None:
        """Replace the item versions by those of the state; only new texts are encoded."""
        if found is self._found:
            return
        if self.scorer is not None:
            before = self._found.select("item_id", "known_at").with_row_index("row")
            rows = found.join(before, on=["item_id", "known_at"], how="left", maintain_order="left")["row"]
            added = found.filter(rows.is_null())
            place = rows.cast(pl.Int64).fill_null(-1).to_numpy().copy()
            place[place < 0] = -1 - np.arange(added.height)
            self.scorer.set_items(np.append(place, self._found.height), self._arrays(added, blank=False))
        self._found = found

    def rank(self, request: Request, answer: Answer, columns: tuple[str, ...]) -> Ranked:
        """Score and order a request's candidates; `columns` are those of `answer.features`."""
        interest = self._interest(request, answer)
        number = {name: n for n, name in enumerate(columns)}
        values = answer.features[:, [number.get(name, 0) for name in self.ranker.columns]]
        for name, n in self._interest_columns.items():
            values[:, n] = interest if name == INTEREST else _z_scores(interest)
        scores = self.ranker.score_rows(values)
        return Ranked(scores, interest, values, order_of(request.items, scores.tolist()))

    def _interest(self, request: Request, answer: Answer) -> NDArray[np.float32]:
        if self.scorer is None:
            return np.full(len(request.items), np.nan, np.float32)
        from models.interest.item_arrays import id_code
        from models.interest.live_scorer import LiveHistory

        past = answer.past
        history = LiveHistory(
            answer.past_versions, np.array([id_code(item) for item in past.items], np.int64), past.actions,
            past.at / 1e6, answer.settled,
        )  # fmt: skip
        ids = np.array([id_code(item) for item in request.items], np.int64)
        return self.scorer.score(request.user_id, history, answer.versions, ids, request.at / 1e6)

    def _arrays(self, found: pl.DataFrame, *, blank: bool) -> "ItemArrays":
        rows = found.select("item_id").with_row_index("version").select("item_id", "version")
        nothing = pl.DataFrame({"item_id": [""], "version": [None]}, schema=rows.schema)
        return item_arrays(pl.concat([rows, nothing]) if blank else rows, found, self._numbers)


def _z_scores(interest: NDArray[np.float32]) -> NDArray[np.float32]:
    from features.catalogue.programs import OPERATIONS, compare

    out = np.empty(interest.size)
    compare(OPERATIONS.index("z"), interest.astype(np.float64), out)
    return out.astype(np.float32)
