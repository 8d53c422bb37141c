"""What is kept of people, and how it goes.

people.py      pseudonyms, and who was forgotten: what stands between the logs and the lake
forgetting.py  a person out of every table, page and record
sweeping.py    names taken out of texts that may quote them
retention.py   what is older than the project keeps, by a job of its own
"""
