"""The ranker: LightGBM LambdaRank over behavioural features and the interest score. The only room that knows LightGBM.

fitted.py    a fitted ranker: scores, probabilities, contributions, saved and loaded
fitting.py   the fit in one process: rounds, calibration, boosters
shards.py    the same by several workers, each with the lists of its own users
network.py   how these workers find each other
drawing.py   whole lists drawn at random, where there are more than one process takes
settings.py  the settings in LightGBM's words
serving.py   a version as a generic MLflow model, on its own
input.py     what is read of a table, and what is refused
"""

from models.ranker.fitted import Ranker, load
from models.ranker.training import fit

__all__ = ["Ranker", "fit", "load"]
