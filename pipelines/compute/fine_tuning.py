"""Fine-tuning of the interest model, by as many workers as the project sets, on any engine."""

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

_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Trainers:
    """The workers that fine-tune one model."""

    engine: Engine
    workers: int
    gpus: bool
    cache: Path
    """Folder on all machines that caches what is computed once per text."""


def fine_tune(
    data: InterestInput,
    config: "InterestConfig",
    trainers: Trainers,
    folder: Path,
    start_from: Path | None,
    progress: Callable[[dict[str, Any]], None],
) -> tuple[Path, list[dict[str, Any]]]:
    """Fit a version in `folder`, starting from the one in `start_from`; return its folder and loss curve.

    All workers must reach `folder`. An interrupted fit in it is resumed; the caller deletes it.
    """
    from models.interest.saved_fit import SavedFit, fit_saved, save_arrays, saved_history

    fit = SavedFit(
        arrays=folder / "arrays",
        out=folder / "version",
        checkpoint=folder / "training",
        start_from=folder / "start" if start_from else None,
        cache=trainers.cache,
    )
    # Remove the output of a fit that was never registered: the slice may have been reprocessed since.
    for path in (fit.out, folder / "start"):
        shutil.rmtree(path, ignore_errors=True)
    save_arrays(fit.arrays, data.items, data.moments, config)
    if start_from:
        shutil.copytree(start_from, folder / "start")
    with _reported(fit.progress, progress):
        trainers.engine.train(fit_saved, fit, trainers.workers, trainers.gpus)
    return fit.out, saved_history(fit.out)


@contextmanager
def _reported(file: Path, progress: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Inside the context, pass each new JSON content of `file` to `progress`; any process may write the file."""
    stopped = Event()

    def follow() -> None:
        last = ""
        while not stopped.wait(_POLL_SECONDS):
            with suppress(FileNotFoundError):
                if (text := file.read_text(encoding="utf-8")) != last:
                    last = text
                    progress(json.loads(text))

    file.unlink(missing_ok=True)
    thread = Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
