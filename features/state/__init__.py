"""The moment state of users, items and their pairs, and the one pass that looks it up and updates it.

counters.py       the counters: keys, quantities, half-lives, TTL
kernels.py        the compiled loops: decay, lookup, update, expiry; compiled.py compiles them
table.py          one counter's entries: arrays, and a hash table from keys
counter_tables.py all counters of a state; entities.py numbers their ids
descriptions.py   item versions as arrays
layout.py         a slice's events as arrays, in order of time
passing.py        lookups and updates of a slice, counter by counter
histories.py      open impressions, recent moments; sessions.py
snapshot.py       counters as stored tables, and back
moment.py         the state: counters, items and histories
"""

from features.state.counters import counters, is_global, kinds_counted
from features.state.moment import OWN, SHARED, MomentState, SliceEvents, names, restore, start

__all__ = [
    "OWN",
    "SHARED",
    "MomentState",
    "SliceEvents",
    "counters",
    "is_global",
    "kinds_counted",
    "names",
    "restore",
    "start",
]
