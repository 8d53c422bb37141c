"""The assets, one file a group: events → moments → interest → ranker → lists. Bodies load, call, publish."""

# No `from __future__ import annotations` in these files: it breaks Dagster's context annotations.
