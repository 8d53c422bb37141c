"""Work that an engine runs, on one machine or many. Arguments are folders, slices and numbers, never rows.

engine.py         where it runs: in this process, or on Ray
bucketed.py       features and moment state, in buckets of users
fine_tuning.py    the interest model, by one or several workers
score_buckets.py  interest scores, one bucket of users at a time
rankers.py        the rankers of a window: in memory, on a sample, or by several workers
scratch.py        files that workers pass to each other
"""
