"""The training objective of a ranker, chosen from the labels."""

from collections.abc import Collection
from typing import NamedTuple

from features.errors import ModelError
from models.evaluation.metrics import LISTWISE, POINTWISE, MetricSet


class Objective(NamedTuple):
    """LightGBM's objective and the validation metric that chooses the number of iterations."""

    name: str
    """LightGBM's name: `lambdarank`, `binary` or `regression`."""
    metric: str
    """LightGBM's name of the validation metric."""
    higher_is_better: bool
    evaluated_by: MetricSet

    @property
    def is_pointwise(self) -> bool:
        """Whether candidates are learnt one by one, not against others of their impression."""
        return self.evaluated_by == POINTWISE


LAMBDARANK = Objective("lambdarank", "ndcg@10", True, LISTWISE)
BINARY = Objective("binary", "binary_logloss", False, POINTWISE)
REGRESSION = Objective("regression", "l2", False, POINTWISE)


def choose_objective(metrics: MetricSet, labels: Collection[float]) -> Objective:
    """LambdaRank for lists; for impressions of one candidate binary, or regression for more than two labels.

    `metrics`: those of the impressions; `labels`: the distinct ones. Raises ModelError for impressions of one candidate
    that all have the same label.
    """
    if metrics == LISTWISE:
        return LAMBDARANK
    if len(labels) < 2:
        raise ModelError(
            f"every impression has one candidate and the label {', '.join(f'{label:g}' for label in labels)}; a ranker "
            "needs clicked and unclicked ones: check source.tables.threshold and labels.gains in the project file"
        )
    return BINARY if len(labels) == 2 else REGRESSION
