"""Explore: swap some of the near-best items of a ranked list at random, with exact propensities.

The near-best ranks are paired at random, and each pair is swapped with probability `share`. Of m ranks, each has m − 1
partners (m if m is odd: one rank stays alone), all equally likely. An item is therefore shown at a given other
near-best position with probability share / partners, and at its own with the rest: every item keeps a chance of every
near-best position, and the propensity of an item at a position needs no simulation.
"""

import numpy as np
from numpy.typing import NDArray


def explore(
    size: int, share: float, near_best: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Which rank (from 0) each position of a list of `size` shows, and the probability that it shows this rank."""
    shown, propensity = np.arange(size), np.ones(size)
    near = min(size, near_best)
    if near < 2:
        return shown, propensity
    pairs = random.permutation(near)[: near // 2 * 2].reshape(-1, 2)
    pairs = pairs[random.random(pairs.shape[0]) < share]
    shown[pairs] = pairs[:, ::-1]
    partners = near - 1 + near % 2
    stays = 1 - share * (near - 1) / partners
    propensity[:near] = np.where(shown[:near] == np.arange(near), stays, share / partners)
    return shown, propensity
