"""Dagster assets, one file per group: events → moments → interest → ranker → lists. Bodies load, call and publish."""

# No `from __future__ import annotations` in these files: it breaks Dagster's context annotations.
