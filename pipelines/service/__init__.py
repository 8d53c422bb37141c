"""Live ranking over HTTP: the moment state, the text vectors and the champion in memory.

wire.py               requests and events as callers send them, validated
journal.py            events on disk before they are acknowledged; closed files go to the landing folder
event_intake.py       accepts events: stamps them, writes them, applies them to the state
pool.py               the items that a request without candidates ranks
resident.py           the state in memory: load, replay, update
champion_follower.py  loads the models that serve, and follows the registry
service.py            start, rank, accept events, stop
access.py             tokens, limits of size and time, counters and latencies
app.py                `momentrank serve`: the HTTP server and its routes
page.html             a page to try it
"""
