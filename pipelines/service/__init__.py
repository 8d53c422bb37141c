"""Live ranking over HTTP: the moment state, the text vectors and the champion in memory.

wire.py      requests and events as callers send them, validated
clock.py     the service's time
journal.py   events on disk before they are acknowledged; closed files go to the landing folder
events.py    accepts events: stamps them, writes them, applies them to the state
pool.py      the items that a request without candidates ranks
resident.py  the state in memory: load, replay, update
champion.py  loads the models that serve, and follows the registry
service.py   start, rank, accept events, stop
access.py    tokens, limits of size and time
metrics.py   counters and latencies in Prometheus' format
app.py       the HTTP routes
running.py   `momentrank serve`
page.html    a page to try it
"""
