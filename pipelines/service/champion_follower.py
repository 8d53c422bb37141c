"""The models that serve. When the champion alias moves, the new ones are loaded and warmed before the swap."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from features.live import LiveMoments
from models.live_ranking import LiveModels
from models.ranker import Ranker
from models.registry.registry import Registry
from models.registry.versions import Version

_log = logging.getLogger(__name__)


class Serving(NamedTuple):
    """The versions that should serve."""

    ranker: Version
    interest: Version | None
    challenger: str | None = None
    """The ranker version of an experiment."""


@dataclass(frozen=True)
class Champion:
    """The versions that serve, and their models. All rankers read the same interest model."""

    versions: Serving
    ranker: Ranker
    challenger: Ranker | None
    models: LiveModels

    @property
    def rankers(self) -> list[Ranker]:
        """The champion's and, in an experiment, the challenger's."""
        return [self.ranker, self.challenger] if self.challenger else [self.ranker]


def load(
    registry: Registry,
    versions: Serving,
    live: LiveMoments,
    numbers: Sequence[str],
    cache: Path,
) -> Champion:
    """Load the models of some versions. `numbers`: names of the items' declared numbers.

    Raises ModelError if one cannot be read or does not fit the state.
    """
    interest = versions.interest
    models = LiveModels(
        registry.interest_folder(interest.version) if interest else None,
        live.described.found,
        numbers,
        cache,
    )
    ranker = registry.load_ranker(versions.ranker.version)
    challenger = registry.load_ranker(versions.challenger) if versions.challenger else None
    champion = Champion(versions, ranker, challenger, models)
    for one in champion.rankers:
        models.require(one, live.plan.columns)
    return champion


class Follower:
    """Polls the registry, and swaps the champion once a new one is ready."""

    def __init__(
        self, look: Callable[[], Serving | None],
        prepare: Callable[[Serving], Champion],
        swap: Callable[[Champion], None], present: Serving, every: float,
    ) -> None:  # fmt: skip
        self._look, self._prepare, self._swap, self._every = look, prepare, swap, every
        self._present = present
        self._refused: Serving | None = None
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
            wanted = self._look()
        except Exception as error:
            self._say(f"the registry cannot be reached: {type(error).__name__}: {error}")
            return
        if wanted is None or wanted == self._present:
            self.problem = ""
            return
        if wanted == self._refused:
            return
        try:
            champion = self._prepare(wanted)
        except Exception as error:
            self._refused = wanted
            self._say(
                f"ranker version {wanted.ranker.version} cannot serve, version {self._present.ranker.version} stays: "
                f"{type(error).__name__}: {error}"
            )
            return
        self._swap(champion)
        self._present, self._refused, self.problem = wanted, None, ""
        _log.info("ranker version %s serves", wanted.ranker.version)

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            _log.warning(problem)
        self.problem = problem

    def _work(self) -> None:
        while not self._stop.wait(self._every):
            self.look_once()
