"""Parsed rows become events: validated, deduplicated, assigned to slices, labelled.

validation.py     rows → items, impressions, interactions and rejects
labels.py         interactions → labels of candidates
item_versions.py  item versions, and which one is visible at an instant
point_in_time.py  as-of join: strictly before an instant
log_problems.py   problems of a log as a whole
pseudonyms.py     user ids as keyed hashes; forgotten users
"""
