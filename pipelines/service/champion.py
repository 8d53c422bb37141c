"""The models that rank, and the registry's alias followed: the new are loaded and warmed before the old go."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from features.live import LiveMoments
from models.live import LiveModels
from pipelines.deployment import Deployment, Version

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Champion:
    """The versions that rank, whole."""

    ranker: Version
    interest: Version | None
    models: LiveModels


def wanted(deployment: Deployment, slice: str) -> tuple[Version, Version | None] | None:
    """The ranker that serves, and the newest interest model fitted before a slice."""
    ranker = deployment.serving(slice)
    return (ranker, deployment.latest("interest", before=slice)) if ranker else None


def load(deployment: Deployment, versions: tuple[Version, Version | None], live: LiveMoments) -> Champion:
    """Load both models. Raises ModelError for what cannot be read or does not fit the state."""
    ranker, interest = versions
    registry = deployment.registry
    models = LiveModels(
        registry.load_ranker(ranker.version),
        registry.interest_folder(interest.version) if interest else None,
        live.described.found,
        deployment.project,
        deployment.settings.cache,
    )
    models.require(live.plan.columns)
    return Champion(ranker, interest, models)


class Follower:
    """Looks at the registry every few seconds and hands over another champion once it is ready."""

    def __init__(
        self, look: Callable[[], tuple[Version, Version | None] | None],
        prepare: Callable[[tuple[Version, Version | None]], Champion],
        swap: Callable[[Champion], None], present: tuple[Version, Version | None], every: float,
    ) -> None:  # fmt: skip
        self._look, self._prepare, self._swap, self._every = look, prepare, swap, every
        self._present = present
        self._refused: tuple[Version, Version | None] | None = None
        self.problem = ""
        """Why another version does not serve, or the registry cannot be reached; empty where all is well."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="champion", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()

    def look_once(self) -> None:
        """Look now, and swap where another champion is named."""
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
                f"ranker version {found[0].version} is refused, version {self._present[0].version} goes on serving: "
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
