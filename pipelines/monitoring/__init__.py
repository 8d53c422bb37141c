"""Checks, monitors and alerts.

checks.py     rules that each table must satisfy, as asset checks
monitors.py   each slice against the slices before it: volume, click rate, drift, calibration, freshness
anomalies.py  when a figure is an anomaly
alerts.py     failed runs, failed checks and missing slices, posted to a webhook
"""
