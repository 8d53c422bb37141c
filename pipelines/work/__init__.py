"""What an engine runs, on one machine or on many: each piece of work takes places and numbers, never rows.

bucketed.py     features and moment state, in buckets of people and ticks of time
fine_tuning.py  the interest model, by one worker or several
scoring.py      interest scores, by actors that load the version once
rankers.py      the ranker: in memory, drawn from its window, or by several workers
shards.py       what each of these workers does
window.py       what a ranker learns from, read whole or in parts
scratch.py      where workers hand files to each other
"""
