"""The models that serve. When the champion alias moves, the new ones are loaded and warmed before the swap."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from features.live import LiveMoments
from models.live_ranking import LiveModels
from models.registry.registry import Registry
from models.registry.versions import Version

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Champion:
    """The versions that serve, and their models."""

    ranker: Version
    interest: Version | None
    models: LiveModels


def load(
    registry: Registry,
    versions: tuple[Version, Version | None],
    live: LiveMoments,
    numbers: Sequence[str],
    cache: Path,
) -> Champion:
    """Load both models. `numbers`: names of the items' declared numbers.

    Raises ModelError if one cannot be read or does not fit the state.
    """
    ranker, interest = versions
    models = LiveModels(
        registry.load_ranker(ranker.version),
        registry.interest_folder(interest.version) if interest else None,
        live.described.found,
        numbers,
        cache,
    )
    models.require(live.plan.columns)
    return Champion(ranker, interest, models)


class Follower:
    """Polls the registry, and swaps the champion once a new one is ready."""

    def __init__(
        self, look: Callable[[], tuple[Version, Version | None] | None],
        prepare: Callable[[tuple[Version, Version | None]], Champion],
        swap: Callable[[Champion], None], present: tuple[Version, Version | None], every: float,
    ) -> None:  # fmt: skip
        self._look, self._prepare, self._swap, self._every = look, prepare, swap, every
        self._present = present
        self._refused: tuple[Version, Version | None] | None = None
        self.problem = ""
        """Why the wanted version does not serve, or the registry is unreachable; else empty."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="champion", daemon=True)

    def start(self) -> None:
        """Start polling."""
        self._thread.start()

    def close(self) -> None:
        """Stop polling."""
        self._stop.set()

    def look_once(self) -> None:
        """Poll once, and swap if the champion changed."""
        try:
            found = self._look()
        except Exception as error:
            self._say(f"the registry cannot be reached: {type(error).__name__}: {error}")
            return
        if found is None or found == self._present:
            self.problem = ""
            return
        if found == self._refused:
            return
        try:
            champion = self._prepare(found)
        except Exception as error:
            self._refused = found
            self._say(
                f"ranker version {found[0].version} cannot serve, version {self._present[0].version} stays: "
                f"{type(error).__name__}: {error}"
            )
            return
        self._swap(champion)
        self._present, self._refused, self.problem = found, None, ""
        _log.info("ranker version %s serves", found[0].version)

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            _log.warning(problem)
        self.problem = problem

    def _work(self) -> None:
        while not self._stop.wait(self._every):
            self.look_once()
