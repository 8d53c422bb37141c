"""What is looked at while nobody looks: is a table right, is a slice unusual, and who is told.

checks.py    what must hold of each asset, as asset checks
monitors.py  a slice beside those before it: volume, click rate, drift, calibration, freshness
unusual.py   when a figure is unusual
alerts.py    failed runs, failed checks and missing slices, posted to a webhook
"""
