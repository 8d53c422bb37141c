"""Rows as read become events: validated, deduplicated, cut into slices, labelled.

validation.py     rows → items, impressions, interactions and rejects
labels.py         which interactions count for which candidate
item_versions.py  which version of an item an instant may see
point_in_time.py  the join that keeps the future out
log_problems.py   what is wrong with a log as a whole
pseudonyms.py     user ids as keyed hashes; people who were forgotten
"""
