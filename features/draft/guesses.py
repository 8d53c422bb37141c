"""What a draft consists of: one guess a key of the project file."""

from dataclasses import dataclass
from typing import Literal

Confidence = Literal["high", "medium", "low", "edit"]
"""`edit`: the logs do not decide it, and a person must write the key."""


@dataclass(frozen=True)
class Guess:
    """A key of the project file, its value, and why.

    A value of None leaves the key out of the file: only its comment is written.
    """

    key: str
    """With its sections, for example `source.tables.user`."""
    value: object
    evidence: str
    confidence: Confidence = "high"
    review: str = ""
    """What a person should look at, as one sentence; empty where there is nothing."""


def listed(names: list[str], limit: int = 8) -> str:
    """Names for a sentence: `a, b, c and 4 more`."""
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
