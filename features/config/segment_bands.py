"""Bands of the numbers that split an evaluation into segments: name → the first number and the end, exclusive."""

import math
from collections.abc import Sequence

Bands = dict[str, tuple[float, float]]


def _bands_from(name: str, starts: Sequence[int]) -> Bands:
    """Bands of whole numbers that begin at `starts`; `name` contains `{}` for the numbers."""
    bands: Bands = {}
    for start, end in zip(starts, (*starts[1:], math.inf), strict=True):
        numbers = (
            f"{start} or more" if end == math.inf else f"{start}–{end - 1}" if end > start + 1 else f"{start}"
        )
        bands[name.format(numbers)] = (start, end)
    return bands


LENGTHS = _bands_from("list of {}", (1, 6, 11, 21, 51))
"""By the candidates of an impression."""
HISTORIES = _bands_from("history of {} clicks", (0, 1, 6, 21, 101))
"""By the clicks of the user."""
AGES: Bands = {
    "item under 6 hours old": (-math.inf, 6),
    "item 6–24 hours old": (6, 24),
    "item 1–7 days old": (24, 168),
    "item over 7 days old": (168, math.inf),
}
"""By the hours since the item's publication."""


def hour_bands(width: int) -> Bands:
    """By the hour of day (UTC)."""
    ends = {start: min(start + width, 24) for start in range(0, 24, width)}
    return {f"{start:02}–{end:02} h": (start, end) for start, end in ends.items()}
