"""What an engine runs, on one machine or on many: arguments are folders, slices and numbers, never rows.

bucketed.py     features and moment state, in buckets of users
fine_tuning.py  the interest model, by one worker or several
scoring.py      interest scores, by actors that load the version once
rankers.py      the rankers of a window: in memory, on a part of it, or by several workers
scratch.py      where workers hand files to each other
"""
