"""Evaluation of scorers: metrics, intervals, segments, baselines, promotion, experiments.

evaluate.py       all scorers on the same impressions, with paired intervals
metrics.py        metrics per impression; pointwise.py for impressions of one candidate
intervals.py      bootstrap; seed_variance.py variance over seeds
attainable.py     the share of the attainable gain
baselines.py      scorers that learn nothing
segments.py       subsets by attribute, length, hour and novelty
exposure.py       coverage, novelty, diversity; the positions that attribute values get
promotion.py      whether a challenger becomes champion
off_policy.py     the click rate that a ranker would have had on logged traffic
experiment.py     champion and challenger on the users assigned to each
sequential.py     intervals and tests that stay valid at every look
"""
