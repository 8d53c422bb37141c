"""The training objective of a ranker, chosen from the dataset."""

from typing import NamedTuple

import polars as pl

from features.errors import ModelError
from models.evaluation.metrics import has_lists


class Objective(NamedTuple):
    """LightGBM's objective and the validation metric that chooses the number of iterations."""

    name: str
    """LightGBM's name: `lambdarank`, `binary` or `regression`."""
    metric: str
    """LightGBM's name of the validation metric."""
    higher_is_better: bool

    @property
    def is_pointwise(self) -> bool:
        """Whether candidates are learnt one by one, not against others of their impression."""
        return self.name != "lambdarank"


LAMBDARANK = Objective("lambdarank", "ndcg@10", True)
BINARY = Objective("binary", "binary_logloss", False)
REGRESSION = Objective("regression", "l2", False)


def choose_objective(dataset: pl.DataFrame) -> Objective:
    """LambdaRank if any impression has two candidates; otherwise binary, or regression for more than two labels.

    `dataset`: `impression_id`, `label`. Raises ModelError if every impression has one candidate and all labels are
    equal.
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
