"""Deletion of personal data. `pipelines/identities.py` has pseudonyms and the users that were forgotten.

forgetting.py  erases a user from every table, page and record
sweeping.py    replaces user ids in files that may quote them
retention.py   a job that deletes personal data older than `retention.keep`
"""
