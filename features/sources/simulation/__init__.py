"""The embedded newsroom: a simulated world whose true click probabilities are known.

world.py      articles, impressions and actions, drawn from a seed
readers.py    visits, and what each reader likes
prose.py      titles and bodies of articles; topics.py their vocabulary
newsroom.py   the world as logs in the event format, with late and broken lines
"""
