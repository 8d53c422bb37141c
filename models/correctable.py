"""What a person can mend: every error that the command line prints without a traceback."""

from features.errors import MomentRankError
from models.interest.config import InterestModelError

CORRECTABLE = (MomentRankError, InterestModelError)
"""The tree of `features/errors.py`, and the error of `models/interest`, which imports nothing of `features`."""
