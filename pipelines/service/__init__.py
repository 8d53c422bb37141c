"""Live ranking over HTTP: the moment state, the text vectors and the champion in memory.

wire.py      what requests and events look like, and what is refused
clock.py     the service's time
journal.py   events on disk before they are acknowledged; files go to the landing folder
events.py    accepted events: stamped, written, then known
pool.py      which items a list is drawn from
resident.py  the state in memory: loaded, replayed, looked up
champion.py  the models that rank, and following the registry
service.py   the parts put together: start, rank, accept, stop
access.py    tokens, size and time limits
metrics.py   counters and latencies as Prometheus reads them
app.py       the HTTP routes
running.py   `momentrank serve`
page.html    a page to try it
"""
