"""The training objective of a ranker, chosen from what its impressions hold."""

from typing import NamedTuple

import polars as pl

from features.errors import ModelError
from models.evaluation.metrics import has_lists


class Objective(NamedTuple):
    """What LightGBM minimises, and what the number of iterations is chosen by."""

    name: str
    """LightGBM's name: `lambdarank`, `binary` or `regression`."""
    metric: str
    """LightGBM's name of the validation metric, as it comes back from a fit."""
    higher_is_better: bool

    @property
    def is_pointwise(self) -> bool:
        """Whether each candidate is learnt alone, not against the others of its impression."""
        return self.name != "lambdarank"


LAMBDARANK = Objective("lambdarank", "ndcg@10", True)
BINARY = Objective("binary", "binary_logloss", False)
REGRESSION = Objective("regression", "l2", False)


def choose_objective(dataset: pl.DataFrame) -> Objective:
    """LambdaRank where any impression has two candidates; else binary, or regression for more than two labels.

    `dataset`: `impression_id`, `label`. Raises ModelError where impressions have one candidate each and all
    have the same label: there is nothing to learn.
    """
    if has_lists(dataset) or dataset.is_empty():
        return LAMBDARANK
    labels = dataset["label"].n_unique()
    if labels < 2:
        raise ModelError(
            f"all {dataset.height} impressions have one candidate and the label {dataset['label'][0]:g}; a ranker "
            "needs clicked and unclicked ones: check source.tables.threshold and labels.gains in the project file"
        )
    return BINARY if labels == 2 else REGRESSION
