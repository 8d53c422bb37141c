"""A ranker's settings as LightGBM's parameters."""

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from features.config import sections
from features.errors import ModelError
from models.ranker.objective import LAMBDARANK, Objective

SETTINGS = ("learning_rate", "num_leaves", "min_data_in_leaf", "feature_fraction", "lambda_l2")
"""Keys of `[ranker]` under LightGBM's own names; `momentrank tune` searches them."""


def seeds_of(seed: int, count: int) -> list[int]:
    """`count` seeds: the seed itself, then ones derived from it."""
    derived = np.random.SeedSequence(abs(seed)).generate_state(count, np.uint32) >> 1  # LightGBM reads int32
    return [seed, *derived.tolist()][:count]


def parameters_of(
    config: sections.Ranker, levels: Sequence[float], seed: int, objective: Objective = LAMBDARANK
) -> dict[str, Any]:
    """LightGBM's parameters; `levels` are the gains of the labels 0, 1, …"""
    listwise = {"metric": "ndcg", "eval_at": [10], "label_gain": list(levels)}
    return {
        "objective": objective.name,
        **({"metric": objective.metric} if objective.is_pointwise else listwise),
        **config.model_dump(include=set(SETTINGS)),
        "max_bin": 127,
        "feature_pre_filter": False,  # columns are binned before the folds are known
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": threads(),
        "verbosity": -1,
    }


def threads(processes: int = 1) -> int:
    """LightGBM's threads in each of `processes` simultaneous fits on this machine.

    Half the cores: threads wait by spinning, and on a busy machine as many threads as cores were ten times slower.
    """
    return max(1, (os.cpu_count() or 1) // 2 // processes)


def directions(declared: Mapping[str, int], features: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Monotone constraint of each column: -1, 0 or 1.

    `declared` is `ranker.monotone`; the last pattern that matches a column decides. Raises ModelError for a pattern
    that matches none of `features`, those of the whole dataset (an ablation reads fewer).
    """
    for pattern in declared:
        if not any(fnmatchcase(column, pattern) for column in features):
            near = ", ".join(get_close_matches(pattern, features, 3, cutoff=0.4))
            raise ModelError(
                f"ranker.monotone names {pattern!r}, which is no feature of the dataset"
                f"{f' (near: {near})' if near else ''}: correct the name or pattern in the project file"
            )
    matching = (
        [sign for pattern, sign in declared.items() if fnmatchcase(column, pattern)] for column in columns
    )
    return [signs[-1] if signs else 0 for signs in matching]
