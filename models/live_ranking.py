"""A ranker and an interest model for live requests: batch's computations on one impression at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import ModelError
from features.live import Answer, Request
from features.ranking_dataset import INTEREST
from models.explanation.contributions import PAST, titles_behind
from models.interest_input import item_arrays
from models.ranker import Ranker
from models.ranking import order_of

if TYPE_CHECKING:
    from models.interest.item_arrays import ItemArrays
    from models.interest.live_scorer import LiveHistory, LiveScorer, NewItems


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
    """The interest model of one champion, loaded once, and what rankers read from it."""

    def __init__(
        self,
        interest: Path | None,
        versions: pl.DataFrame,
        numbers: Sequence[str],
        cache: Path,
    ) -> None:
        """`interest`: folder of a version of the model; `versions`: the item versions, `LiveMoments.described.found`.

        `numbers`: names of the items' declared numbers. Raises ModelError.
        """
        self._numbers, self._versions = numbers, versions
        self.scorer = None if interest is None else self._scorer(interest, cache)

    def _scorer(self, interest: Path, cache: Path) -> "LiveScorer":
        from models.interest.live_scorer import LiveScorer
        from models.interest.version import InterestModel

        return LiveScorer(InterestModel.load(interest), self._arrays(self._versions, blank=True), cache)

    @staticmethod
    def require(ranker: Ranker, columns: tuple[str, ...]) -> None:
        """Raise ModelError unless `columns` has every feature that a ranker was fitted on."""
        missing = set(ranker.columns) - {*columns, INTEREST, f"{INTEREST}_z"}
        if missing:
            raise ModelError(
                f"the ranker reads {', '.join(sorted(missing)[:5])}, which this project's features do not have: "
                "serve with the project file that it was fitted with, or fit again with `momentrank run`"
            )

    def unknown(self, versions: pl.DataFrame) -> pl.DataFrame:
        """The rows of `versions` that are not among the item versions yet."""
        return versions.join(self._versions, on=["item_id", "known_at"], how="anti", maintain_order="left")

    def embed(self, items: pl.DataFrame) -> "NewItems | None":
        """New item versions (`schemas.Items`) for `describe`: the slow part, for which no lock is needed."""
        return self.scorer.embed(self._arrays(items, blank=False)) if self.scorer else None

    def describe(self, versions: pl.DataFrame, items: pl.DataFrame, embedded: "NewItems | None") -> None:
        """Replace the item versions by those of the state. `embedded`: of `items`, those that are new."""
        if self.scorer is not None and versions is not self._versions:
            keys, before = ["item_id", "known_at"], self._versions.height
            both = pl.concat([self._versions.select(keys), items.select(keys)]).with_row_index("row")
            joined = versions.join(both, on=keys, how="left", maintain_order="left")
            row = joined["row"].cast(pl.Int64).to_numpy()
            # The scorer numbers new items -1, -2, …; its last item stands for unknown ones.
            rows = np.where(row < before, row, before - 1 - row)
            self.scorer.set_items(np.append(rows, before), embedded)
        self._versions = versions

    def rank(self, ranker: Ranker, request: Request, answer: Answer, columns: tuple[str, ...]) -> Ranked:
        """Score and order a request's candidates; `columns` are those of `answer.features`."""
        interest = self._interest(request, answer)
        number = {name: n for n, name in enumerate(columns)}
        values = answer.features[:, [number.get(name, 0) for name in ranker.columns]]
        for n, name in enumerate(ranker.columns):
            if name in (INTEREST, f"{INTEREST}_z"):
                values[:, n] = interest if name == INTEREST else _z_scores(interest)
        scores = ranker.score_rows(values)
        return Ranked(scores, interest, values, order_of(request.items, scores.tolist()))

    def _interest(self, request: Request, answer: Answer) -> NDArray[np.float32]:
        if self.scorer is None:
            return np.full(len(request.items), np.nan, np.float32)
        history, ids = self._history(answer), _ids(request.items)
        return self.scorer.score(request.user_id, history, answer.versions, ids, request.at / 1e6)

    def past_behind(self, request: Request, answer: Answer, candidates: Sequence[int]) -> pl.Series:
        """As `explanation.contributions.past_behind`, of some candidates."""
        if self.scorer is None:
            return pl.Series("past", [None] * len(candidates), PAST)
        history, rows = self._history(answer), answer.versions[candidates]
        ids = _ids([request.items[n] for n in candidates])
        raised = self.scorer.moments_behind(history, rows, ids, request.at / 1e6, top=8)
        titles = self._versions["title"].gather(pl.Series(answer.past_versions).replace(-1, None))
        return titles_behind(raised, list(zip(titles, answer.past.actions, strict=True)))

    def _history(self, answer: Answer) -> "LiveHistory":
        from models.interest.live_scorer import LiveHistory

        past = answer.past
        return LiveHistory(
            answer.past_versions, _ids(past.items), past.actions, past.at / 1e6, answer.settled, answer.since
        )  # fmt: skip

    def _arrays(self, versions: pl.DataFrame, *, blank: bool) -> "ItemArrays":
        rows = versions.select("item_id").with_row_index("version").select("item_id", "version")
        nothing = pl.DataFrame({"item_id": [""], "version": [None]}, schema=rows.schema)
        return item_arrays(pl.concat([rows, nothing]) if blank else rows, versions, self._numbers)


def _ids(items: Sequence[str]) -> NDArray[np.int64]:
    return np.array([_id_code(item) for item in items], np.int64)


@lru_cache(1 << 18)
def _id_code(item: str) -> int:
    from models.interest.item_arrays import id_code

    return id_code(item)


def _z_scores(interest: NDArray[np.float32]) -> NDArray[np.float32]:
    from features.catalogue.programs import OPERATIONS, compare

    out = np.empty(interest.size)
    compare(OPERATIONS.index("z"), interest.astype(np.float64), out)
    return out.astype(np.float32)
