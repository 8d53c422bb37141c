"""What is kept of people, and how it goes. `pipelines/identities.py` knows pseudonyms and who was forgotten.

forgetting.py  a person out of every table, page and record
sweeping.py    names taken out of texts that may quote them
retention.py   what is older than the project keeps, by a job of its own
"""
