"""The moment state as a process holds it in memory: events update it one after the other, requests look it up.

histories.py   each user's lists, sessions and moments, by user
moments.py     the whole: counters, item versions, text vectors, histories
"""

from features.live.histories import Past
from features.live.moments import Answer, LiveMoments, Request

__all__ = ["Answer", "LiveMoments", "Past", "Request"]
