"""The moment state in memory: events update it as they arrive, requests look it up.

moments.py     the state: counters, item versions, texts, histories
query_clicks.py  clicks after queries
histories.py   each user's open impressions, sessions and moments
texts.py       text vectors, and the running mean of the texts shown
"""

from features.live.histories import Past
from features.live.moments import Answer, LiveMoments, Request

__all__ = ["Answer", "LiveMoments", "Past", "Request"]
