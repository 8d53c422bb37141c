"""The interest model fine-tuned by as many workers as the project says, wherever the engine has them work."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

from features.errors import ProjectError
from models.interest_input import InterestInput, interest_config
from pipelines.deployment import Deployment

_LOOK_EVERY = 1.0  # seconds


def place_of(deployment: Deployment, slice: str) -> Path:
    """Folder of a slice's fit; what stands in it after an interruption is gone on from.

    Raises ProjectError where workers of other machines would share it and it is no folder.
    """
    project, settings = deployment.project, deployment.settings
    if settings.engine == "embedded":
        return settings.checkpoints / project.name / slice
    place = deployment.scratch("fits", slice)
    if "://" in place:
        raise ProjectError(
            f"MOMENTRANK_SCRATCH is {settings.scratch}, and a fit's workers map its arrays into memory: name a folder "
            "that all machines share, or unset MOMENTRANK_ENGINE"
        )
    return Path(place)


def fine_tune(
    deployment: Deployment, slice: str, given: InterestInput, start_from: Path | None
) -> tuple[Path, list[dict[str, Any]]]:
    """A version fitted on a slice, beginning from the one in `start_from`: its folder and its loss curve."""
    from models.interest.arrays import save_arrays
    from models.interest.fitting import SavedFit, fit_saved, saved_history

    place, project = place_of(deployment, slice), deployment.project
    embedded = deployment.settings.engine == "embedded"
    fit = SavedFit(
        arrays=place / "arrays",
        out=place / "version",
        checkpoint=place / "training",
        start_from=place / "start" if start_from else None,
        cache=deployment.settings.cache if embedded else Path(deployment.scratch("cache")),
    )
    # Left by a fit whose version was never registered: the slice may have been restated since.
    for left in (fit.out, place / "start"):
        shutil.rmtree(left, ignore_errors=True)
    save_arrays(fit.arrays, given.items, given.moments, interest_config(project))
    if start_from:
        shutil.copytree(start_from, place / "start")
    with _followed(fit.progress, deployment.watch(f"interest_model {slice}")):
        deployment.engine.train(fit_saved, fit, project.scale.trainers, project.scale.gpus)
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
