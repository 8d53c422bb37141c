"""Every error that MomentRank raises on purpose.

MomentRankError
├── ProjectError      the project file is wrong: a key, a value, a path
├── SourceError       a log cannot be read at all (single bad rows go to `rejects` instead)
├── TableError        a table is missing or does not have the columns its reader needs
├── ModelError        a model is missing, or is asked for something it was not fitted on
└── TrackingError     the MLflow tracking server or registry cannot be reached

InterestModelError    the same for `models/interest`, which imports nothing of `features`; `models/correctable.py` has both

An error states what was found, what was expected and the command or edit that mends it.
"""


class MomentRankError(Exception):
    """Base of all errors a person can mend; the command line prints it without a traceback."""


class ProjectError(MomentRankError):
    """The project file is wrong."""


class SourceError(MomentRankError):
    """A log cannot be read at all."""


class TableError(MomentRankError):
    """A table is missing or lacks columns."""


class ModelError(MomentRankError):
    """A model is missing, or is asked for something it was not fitted on."""


class TrackingError(MomentRankError):
    """The tracking server or registry cannot be reached."""
