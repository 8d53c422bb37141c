"""Learn, score, evaluate: the interest model, the ranker, metrics, promotion, registry, report."""
