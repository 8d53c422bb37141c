"""The moment state in memory: events update it as they arrive, requests look it up.

live_moments.py    the state: counters, item versions, texts, histories
user_histories.py  each user's open impressions, sessions and moments
query_clicks.py    clicks after queries
texts.py           text vectors, and the running mean of the texts shown
"""

from features.live.live_moments import Answer, LiveMoments, Request
from features.live.user_histories import Done, Past, Shown

__all__ = ["Answer", "Done", "LiveMoments", "Past", "Request", "Shown"]
