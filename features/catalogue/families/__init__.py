"""Feature definitions by family; `features/catalogue/__init__.py` combines them.

reading.py      counts, rates and ages as terms over the counters
item.py         families item and attribute
user.py         families user and session
user_item.py    families affinity, pair and text
impression.py   families context and list
"""
