"""A fit whose input and output are folders: any number of processes, on any machines that share them, can do it."""

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .arrays import load_arrays
from .training import Progress, fine_tune
from .version import InterestModel
from .workers import Workers

_TELL_EVERY = 1.0  # seconds


@dataclass(frozen=True)
class SavedFit:
    """Where a fit finds what it needs and leaves what it makes; every worker sees the same folders."""

    arrays: Path
    """Written by `arrays.save_arrays`, with the configuration."""
    out: Path
    """The version, there wholly or not at all."""
    checkpoint: Path
    """A folder for this fit alone."""
    start_from: Path | None = None
    """A version to begin from."""
    cache: Path | None = None
    """What never changes of each text, across fits."""

    @property
    def progress(self) -> Path:
        """A file with the last of what `fine_tune` tells, as JSON; replaced about every second."""
        return self.out.with_name("progress.json")


def fit_saved(fit: SavedFit) -> None:
    """Fine-tune with the workers that the environment describes and save the version; done before, do nothing."""
    with Workers.join() as workers:
        if workers.gather(fit.out.exists())[0]:
            return
        items, moments, config = load_arrays(fit.arrays)
        model = fine_tune(
            items,
            moments,
            config,
            start_from=fit.start_from,
            checkpoint=fit.checkpoint,
            progress=_telling(fit.progress) if workers.rank == 0 else None,
            cache=fit.cache,
            workers=workers,
        )
        if workers.rank == 0:
            _save(model, fit.out)
        workers.barrier()


def saved_history(version: Path) -> list[dict[str, Any]]:
    """The loss curve of the fit that saved a version."""
    history: list[dict[str, Any]] = json.loads((version / "config.json").read_text(encoding="utf-8"))[
        "history"
    ]
    return history


def _save(model: InterestModel, out: Path) -> None:
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save(partial)
    os.replace(partial, out)


def _telling(file: Path) -> Progress:
    reported_at = 0.0

    def tell(facts: dict[str, float]) -> None:
        nonlocal reported_at
        if time.monotonic() - reported_at < _TELL_EVERY:
            return
        reported_at = time.monotonic()
        partial = file.with_suffix(".partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(facts), encoding="utf-8")
        os.replace(partial, file)

    return tell
