"""How good a metric is, between random order and perfect order."""

PERFECT = 1.0
"""nDCG, recall, MRR, AUC and pooled AUC of the best possible order, by definition."""


def attainable_share(mean: float, random: float | None) -> float | None:
    """Share of the attainable gain: (mean − random) / (1 − random).

    0 is random order, 1 perfect order, negative worse than random. `random` is the mean of the scorer `random` on the
    same impressions. None if it is missing or leaves nothing to gain.
    """
    if random is None or random >= PERFECT:
        return None
    return (mean - random) / (PERFECT - random)


def beside_random(mean: float, random: float | None) -> str:
    """`random order 0.263, perfect order 1: 46.0% of the attainable gain`; empty if the share is unknown."""
    share = attainable_share(mean, random)
    if share is None:
        return ""
    return f"random order {random:.3f}, perfect order {PERFECT:.0f}: {share:.1%} of the attainable gain"
