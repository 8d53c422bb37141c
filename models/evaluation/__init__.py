"""How good scorers are: metrics, intervals, segments, baselines, promotion.

evaluate.py       every scorer on the same impressions, with paired intervals
metrics.py        metrics of ranked lists; pointwise.py of impressions of one candidate
intervals.py      bootstrap; seed_variance.py deviations over seeds
attainable.py     the share of the attainable gain
baselines.py      scorers that learn nothing
segments.py       subsets by attribute, length, hour and age; exposure.py who is shown what
promotion.py      whether a challenger becomes champion
"""
