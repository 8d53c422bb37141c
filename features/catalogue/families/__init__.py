"""What can be read of a candidate, family by family. `../catalogue.py` puts the families together.

feature.py    one column: name, meaning, where the idea is from, how it is read
reading.py    counts, rates and ages, as expressions over the counters
item.py, attribute.py, user.py, session.py, affinity.py, pair.py, text.py, context.py, list.py
"""
