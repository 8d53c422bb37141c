"""Errors that MomentRank raises for a person to fix.

MomentRankError
├── ProjectError      the project file is invalid: a key, a value, a path
├── SourceError       a log cannot be read at all (single invalid rows go to `rejects`)
├── TableError        a table, or a column of it, is missing
├── ModelError        a model is missing, or was not fitted on what it should predict
└── TrackingError     the MLflow tracking server or registry cannot be reached

InterestModelError    errors of `models/interest`, which does not import `features`; `models/correctable.py` unites both

An error says what was found, what was expected, and the command or edit that fixes it.
"""


class MomentRankError(Exception):
    """Base class; the command line prints these without a traceback."""


class ProjectError(MomentRankError):
    """The project file is invalid."""


class SourceError(MomentRankError):
    """A log cannot be read at all."""


class TableError(MomentRankError):
    """A table, or a column of it, is missing."""


class ModelError(MomentRankError):
    """A model is missing, or was not fitted on what it should predict."""


class TrackingError(MomentRankError):
    """The tracking server or registry cannot be reached."""
