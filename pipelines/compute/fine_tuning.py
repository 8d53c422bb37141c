"""The interest model fine-tuned by as many workers as the project says, wherever the engine runs them."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from models.interest_input import InterestInput
from pipelines.compute.engine import Engine

if TYPE_CHECKING:
    from models.interest.config import InterestConfig

_LOOK_EVERY = 1.0  # seconds


@dataclass(frozen=True)
class Trainers:
    """The workers that fine-tune together."""

    engine: Engine
    workers: int
    gpus: bool
    cache: Path
    """Folder, reached by all workers, of what is computed once of each text."""


def fine_tune(
    given: InterestInput,
    config: "InterestConfig",
    trainers: Trainers,
    folder: Path,
    start_from: Path | None,
    progress: Callable[[dict[str, Any]], None],
) -> tuple[Path, list[dict[str, Any]]]:
    """Fit a version in `folder`, starting from the one in `start_from`; return its folder and its loss curve.

    `folder` is reached by all workers; what an interrupted fit left there is resumed.
    """
    from models.interest.arrays import save_arrays
    from models.interest.fitting import SavedFit, fit_saved, saved_history

    fit = SavedFit(
        arrays=folder / "arrays",
        out=folder / "version",
        checkpoint=folder / "training",
        start_from=folder / "start" if start_from else None,
        cache=trainers.cache,
    )
    # Left by a fit whose version was never registered: the slice may have been restated since.
    for left in (fit.out, folder / "start"):
        shutil.rmtree(left, ignore_errors=True)
    save_arrays(fit.arrays, given.items, given.moments, config)
    if start_from:
        shutil.copytree(start_from, folder / "start")
    with _followed(fit.progress, progress):
        trainers.engine.train(fit_saved, fit, trainers.workers, trainers.gpus)
    return fit.out, saved_history(fit.out)


@contextmanager
def _followed(file: Path, tell: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Tell what is written to a file, by whichever process, as long as this lasts."""
    over = Event()

    def follow() -> None:
        told = ""
        while not over.wait(_LOOK_EVERY):
            with suppress(FileNotFoundError):
                if (found := file.read_text(encoding="utf-8")) != told:
                    told = found
                    tell(json.loads(found))

    file.unlink(missing_ok=True)
    thread = Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
