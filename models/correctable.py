"""Errors that a user can correct: the command line prints them without a traceback."""

from features.errors import MomentRankError
from models.interest.config import InterestModelError

CORRECTABLE = (MomentRankError, InterestModelError)
"""The errors of `features/errors.py`, and of `models/interest`, which imports nothing from `features`."""
