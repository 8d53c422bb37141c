"""The steps from a slice's events to its evaluation, in order.

Assets call them with tables of the lake, `pipelines/backtest.py` with tables in memory. An import contract
(pyproject.toml) makes both use this list. Workers run parts of some steps with the same functions
(`pipelines/compute/`).

    labelled           impressions                                     → those with a known label
    attribute          impressions, interactions                       → candidates with labels
    item_vectors       item versions                                   → text vectors
    with_queries       text vectors, impressions, state before         → text vectors, with the queries
    lookup_and_update  state before, events, text vectors              → features, state after
    interest_input     state before, events, labels                    → the interest model's arrays
    interest_scores    these arrays, a version of earlier slices       → interest scores
    fine_tune          these arrays, the previous version              → interest model version
    assemble           candidates, features, interest scores           → ranking dataset
    fit_rankers        the ranking datasets of a window                → ranker, and ranker without text
    background         state before, events                            → inputs of baselines and segments
    score_slice        ranking dataset, both rankers, background       → scores of every scorer
    evaluate_slice     scores                                          → evaluation result
"""

from features.behaviour import advance, lookup_and_update, read_features
from features.events.labels import attribute, timely
from features.ranking_dataset import assemble, labelled
from models.interest_input import (
    InterestInput,
    interest_config,
    interest_input,
    interest_scores,
    item_vectors,
    with_queries,
)
from models.prequential import background, evaluate_slice, fit_rankers, score_slice, scorers
from pipelines.compute.fine_tuning import Trainers, fine_tune
from pipelines.compute.rankers import RankingWindow, fit_window

__all__ = [
    "InterestInput",
    "RankingWindow",
    "Trainers",
    "advance",
    "assemble",
    "attribute",
    "background",
    "evaluate_slice",
    "fine_tune",
    "fit_rankers",
    "fit_window",
    "interest_config",
    "interest_input",
    "interest_scores",
    "item_vectors",
    "labelled",
    "lookup_and_update",
    "read_features",
    "score_slice",
    "scorers",
    "timely",
    "with_queries",
]
