"""Checks, monitors and alerts.

checks.py     rules that each table must satisfy, as asset checks
monitors.py   each slice against the slices before it: volume, click rate, drift, calibration, freshness
anomalies.py  when a figure is an anomaly; attribute_shifts.py for figures by attribute value
alerts.py     failed runs, failed checks and missing slices, posted to a webhook
"""
