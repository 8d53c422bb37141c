"""The ranker: LightGBM LambdaRank over behavioural features and the interest score. Only this package imports LightGBM.

fitted.py              a fitted ranker: scores, probabilities, contributions, saved and loaded
boosting.py            the fit in one process: number of iterations, calibration, boosters
shards.py              the fit by several workers, each with the impressions of its own users
sockets.py             LightGBM's network between these workers
objective.py           the training objective
folds.py               time-ordered folds
propensity.py          position propensities from the log
calibration.py         scores to click probabilities
search.py              search for hyperparameters
lightgbm_parameters.py settings → LightGBM's parameters
served_ranker.py       a version as a generic MLflow model, self-contained
input.py               the sample of impressions, the input matrix and its checks
"""

from models.ranker.boosting import fit
from models.ranker.fitted import Ranker, load

__all__ = ["Ranker", "fit", "load"]
