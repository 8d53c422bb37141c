"""The parts of a draft: one guess per key of the project file."""

from dataclasses import dataclass
from typing import Literal

Confidence = Literal["high", "medium", "low", "edit"]
"""`edit`: the logs do not show it; the user must write the key."""


@dataclass(frozen=True)
class Guess:
    """A key of the project file, its value and the evidence. A key with value None is written as a comment."""

    key: str
    """Dotted, for example `source.tables.user`."""
    value: object
    evidence: str
    confidence: Confidence = "high"
    review: str = ""
    """What the user should check, in one sentence, or empty."""


def join_names(names: list[str], limit: int = 8) -> str:
    """Join names for a sentence: `a, b, c and 4 more`."""
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
