"""Feature definitions by family; `features/catalogue/__init__.py` combines them.

feature.py    one column: name, family, meaning, source of the idea, value
reading.py    counts, rates and ages as terms over the counters
item.py, attribute.py, user.py, session.py, affinity.py, pair.py, text.py, query.py, context.py, list.py
"""
