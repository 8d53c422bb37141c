"""The built-in newsroom: a simulated world with known click probabilities.

world.py      articles, impressions and actions, drawn from a seed
readers.py    visits, tastes and searches of readers
prose.py      titles and bodies of articles; vocabulary.py their vocabulary
newsroom.py   the world as logs in Metarank's format, with late and broken lines
"""
