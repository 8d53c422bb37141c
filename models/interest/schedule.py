"""The schedule of a fit: impressions and learning rates of each step."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from .config import InterestConfig
from .moment_arrays import MomentArrays, Segment, segments
from .version import InterestModel

_WARM_UP = 0.1
_LOWEST_RATE = 0.05
_WEIGHT_DECAY = 0.01
_CODE_RATE = 3.0
"""Embeddings of ids and attribute values learn faster: each occurs in few steps, and starts at zero."""

Step = list[list[Segment]]
"""The passes of one step, each about `impressions_per_step` impressions."""


def plan(moments: MomentArrays, config: InterestConfig) -> list[list[Step]]:
    """Steps of each epoch, with segments in a seeded order; no epochs without candidates."""
    pieces = [s for s in segments(moments, config) if s.candidates]
    if not pieces:
        return []
    epochs = []
    for epoch in range(config.epochs):
        order = np.random.default_rng([config.seed, epoch]).permutation(len(pieces))
        total = np.cumsum([len(pieces[n].impressions) for n in order])
        group: npt.NDArray[np.int64] = (total - 1) // config.impressions_per_step
        ends = np.flatnonzero(np.diff(group, append=group[-1] + 1)) + 1
        starts = np.concatenate([[0], ends[:-1]])
        passes = [[pieces[n] for n in order[a:b]] for a, b in zip(starts, ends, strict=True)]
        many = config.accumulate
        epochs.append([passes[first : first + many] for first in range(0, len(passes), many)])
    return epochs


def share_of_peak(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, then cosine decay to a small rate."""
    warm = max(1, round(_WARM_UP * steps))
    if step <= warm:
        return step / warm
    share = (step - warm) / max(1, steps - warm)
    return _LOWEST_RATE + (1 - _LOWEST_RATE) * 0.5 * (1 + math.cos(math.pi * share))


def parameter_groups(model: InterestModel) -> list[dict[str, Any]]:
    """Optimiser groups with their `peak` rate. Weight decay is for matrices only, not for embeddings."""
    config = model.config
    codes = {id(module.weight) for module in model.decoder.items.tables()}
    tables = {id(m.weight) for m in model.decoder.modules() if isinstance(m, nn.Embedding)} - codes
    own = list(model.decoder.parameters())
    matrices = [p for p in own if p.ndim > 1 and id(p) not in codes | tables]
    grouped = {id(p) for p in matrices} | codes
    groups = [
        (matrices, config.decoder_rate, _WEIGHT_DECAY),
        ([p for p in own if id(p) not in grouped], config.decoder_rate, 0.0),
        ([p for p in own if id(p) in codes], _CODE_RATE * config.decoder_rate, 0.0),
        (list(model.encoder.tuned_parameters().values()), config.encoder_rate, _WEIGHT_DECAY),
    ]
    return [
        {"params": params, "lr": peak, "peak": peak, "weight_decay": decay}
        for params, peak, decay in groups
        if params
    ]
