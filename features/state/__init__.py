"""The moment state: what is remembered of users, items and values, and the one pass that looks up and updates it.

counters.py       what is counted of each key: quantities, half-lives, TTL
kernels.py        the compiled loops: decay, lookup, update, expiry
table.py          one counter's entries: arrays, and a hash table from keys
tables.py         all counters of a state, and the numbers of their ids (entities.py)
descriptions.py   item versions as arrays
layout.py         a slice's events as arrays, in order of time
passing.py        the pass over a slice, counter by counter
threads.py        pieces of it side by side
histories.py      sessions, open lists, recent moments
snapshot.py       counters as stored tables, and back
moment.py         the state as a whole
"""

from features.state.counters import Counter, column, counters, is_global, kinds_counted
from features.state.moment import OWN, SHARED, MomentState, SliceEvents, names, restore, start

__all__ = [
    "OWN",
    "SHARED",
    "Counter",
    "MomentState",
    "SliceEvents",
    "column",
    "counters",
    "is_global",
    "kinds_counted",
    "names",
    "restore",
    "start",
]
