"""Who was champion when, and why: each move of the alias is kept, as a tag of the registered model.

A move is written before the alias moves, so the alias alone says who serves; the moves say how it came to
that. A tag of its own each: two people who move at once lose neither move, and the later alias stands.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

Action = Literal["promoted by rule", "promoted by hand", "rolled back"]

_PREFIX = "champion moved "
_LONGEST = 4000
"""Characters of a reason: a database column of MLflow's takes 5000 for the whole."""


@dataclass(frozen=True)
class Move:
    """One version that took the champion's place, or was given it back."""

    at: datetime
    version: str
    slice: str
    """The last slice that the version was fitted on."""
    action: Action
    replaced: str | None
    """The version that was champion before; None for the first."""
    reason: str

    def as_tag(self) -> tuple[str, str]:
        """Name and text of the tag that keeps it."""
        told = {
            "version": self.version,
            "slice": self.slice,
            "action": self.action,
            "replaced": self.replaced,
            "reason": self.reason[:_LONGEST],
        }
        instant = self.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return _PREFIX + instant, json.dumps(told, ensure_ascii=False)


def moves(tags: Mapping[str, str]) -> list[Move]:
    """The moves among a registered model's tags, oldest first."""
    kept = sorted(name for name in tags if name.startswith(_PREFIX))
    return [
        Move(at=datetime.fromisoformat(name.removeprefix(_PREFIX)), **json.loads(tags[name])) for name in kept
    ]


def succession(past: Sequence[Move], champion: str | None) -> list[str]:
    """The champions that can be gone back to, the present one last; those rolled back are no longer among them.

    What the alias says counts: a move that it never followed is left out, and a champion that was set
    elsewhere, in MLflow's own page for example, stands on those before it.
    """
    line: list[str] = []
    for move in past:
        line = _up_to(line, move.replaced)
        back = move.action == "rolled back"
        line = _up_to(line[:-1], move.version) if back else [*line, move.version]
    return _up_to(line, champion)


def withdrawn(past: Sequence[Move]) -> set[str]:
    """Versions that were rolled back from, and that nobody has made champion by hand, or gone back to, since."""
    found: set[str] = set()
    for move in past:
        found.discard(move.version)
        if move.action == "rolled back" and move.replaced:
            found.add(move.replaced)
    return found


def _up_to(line: list[str], version: str | None) -> list[str]:
    """The line until a version last occurs in it, or with it at its end; nobody's is empty."""
    if version is None:
        return []
    if version not in line:
        return [*line, version]
    return line[: len(line) - line[::-1].index(version)]
