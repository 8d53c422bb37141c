"""Learn, score, judge: the interest model, the ranker, metrics, promotion, registry, report."""
