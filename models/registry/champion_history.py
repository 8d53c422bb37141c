"""History of the champion alias: each move is a tag of the registered model.

A move is written before the alias is set, so only the alias says which version serves. Each move has its own tag, so
simultaneous moves do not overwrite each other; the later alias wins.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

Action = Literal["promoted by rule", "promoted by hand", "rolled back"]

_PREFIX = "champion moved "
_MAX_REASON = 4000
"""Characters: MLflow's database column holds 5000 for the whole tag."""


@dataclass(frozen=True)
class Move:
    """A change of champion."""

    at: datetime
    version: str
    slice: str
    """The last slice that the version was fitted on."""
    action: Action
    replaced: str | None
    """The previous champion; None for the first move."""
    reason: str

    def as_tag(self) -> tuple[str, str]:
        """Name and value of its tag."""
        value = {**asdict(self), "reason": self.reason[:_MAX_REASON]}
        value.pop("at")
        instant = self.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return _PREFIX + instant, json.dumps(value, ensure_ascii=False)


def moves(tags: Mapping[str, str]) -> list[Move]:
    """Read the moves from a registered model's tags, oldest first."""
    names = sorted(name for name in tags if name.startswith(_PREFIX))
    return [
        Move(at=datetime.fromisoformat(name.removeprefix(_PREFIX)), **json.loads(tags[name]))
        for name in names
    ]


def succession(history: Sequence[Move], champion: str | None) -> list[str]:
    """The champions to roll back through, ending with the current one; versions that were rolled back are left out.

    The alias decides: a move that the alias did not follow is left out, and a champion that was set elsewhere, for
    example in MLflow's UI, comes after the ones before it.
    """
    champions: list[str] = []
    for move in history:
        champions = _up_to(champions, move.replaced)
        rolled_back = move.action == "rolled back"
        champions = _up_to(champions[:-1], move.version) if rolled_back else [*champions, move.version]
    return _up_to(champions, champion)


def withdrawn(history: Sequence[Move]) -> set[str]:
    """Versions that were rolled back and have not become champion again since."""
    versions: set[str] = set()
    for move in history:
        versions.discard(move.version)
        if move.action == "rolled back" and move.replaced:
            versions.add(move.replaced)
    return versions


def _up_to(champions: list[str], version: str | None) -> list[str]:
    """The champions up to the last occurrence of a version, or with it appended; empty for None."""
    if version is None:
        return []
    if version not in champions:
        return [*champions, version]
    return champions[: len(champions) - champions[::-1].index(version)]
