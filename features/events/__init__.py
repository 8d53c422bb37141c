"""Parsed rows become events: validated, deduplicated, assigned to slices, labelled.

validation.py     rows → items, impressions, interactions and rejects
labels.py         interactions → labels of candidates
point_in_time.py  as-of joins, strictly before an instant; item versions
log_problems.py   problems of a log as a whole
pseudonyms.py     user ids as keyed hashes; forgotten users
"""
