"""A fit whose input and output are folders: any number of processes, on any machines that share them, can run it.

The input is a folder of plain .npy files, which a machine without Polars and without the logs can read: `items/` and
`moments/` hold one file per field, `texts.json` the items' texts, `config.json` the configuration.
"""

import json
import os
import shutil
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .config import InterestConfig, InterestModelError
from .fit import Progress, fine_tune
from .item_arrays import ItemArrays
from .moment_arrays import MomentArrays
from .version import InterestModel
from .workers import Workers

_REPORT_SECONDS = 1.0
_READ: Literal["r"] = "r"


@dataclass(frozen=True)
class SavedFit:
    """The folders of a fit; every worker must reach them."""

    arrays: Path
    """Input: what `save_arrays` wrote."""
    out: Path
    """Output: the version, written atomically."""
    checkpoint: Path
    """A folder for this fit alone."""
    start_from: Path | None = None
    """The version to start from."""
    cache: Path | None = None
    """Cache of what is computed once per text, for all fits."""

    @property
    def progress(self) -> Path:
        """JSON file with the latest progress of `fine_tune`, replaced about every second."""
        return self.out.with_name("progress.json")


def fit_saved(fit: SavedFit) -> None:
    """Fine-tune with the environment's workers and save the version; do nothing if it exists."""
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
            progress=_reporting(fit.progress) if workers.rank == 0 else None,
            cache=fit.cache,
            workers=workers,
        )
        if workers.rank == 0:
            _save(model, fit.out)
        workers.barrier()


def saved_history(version: Path) -> list[dict[str, Any]]:
    """Loss curve of the fit of a saved version."""
    history: list[dict[str, Any]] = json.loads((version / "config.json").read_text(encoding="utf-8"))[
        "history"
    ]
    return history


def _save(model: InterestModel, out: Path) -> None:
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save(partial)
    os.replace(partial, out)


def _reporting(file: Path) -> Progress:
    reported_at = 0.0

    def report(facts: dict[str, float]) -> None:
        nonlocal reported_at
        if time.monotonic() - reported_at < _REPORT_SECONDS:
            return
        reported_at = time.monotonic()
        partial = file.with_suffix(".partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(facts), encoding="utf-8")
        os.replace(partial, file)

    return report


def save_arrays(folder: Path, items: ItemArrays, moments: MomentArrays, config: InterestConfig) -> None:
    """Write the input of a fit into `folder`; replace earlier files."""
    for name, arrays in (("items", items), ("moments", moments)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for field in _array_fields(type(arrays)):
            np.save(folder / name / f"{field}.npy", getattr(arrays, field), allow_pickle=False)
    (folder / "texts.json").write_text(json.dumps(items.texts), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(config.as_dict(), indent=1), encoding="utf-8")


def load_arrays(folder: Path) -> tuple[ItemArrays, MomentArrays, InterestConfig]:
    """Read what `save_arrays` wrote; moments are memory-mapped, so that a machine's processes share them.

    Raises InterestModelError if files are missing or the arrays contradict each other.
    """
    try:
        config = InterestConfig.from_dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        read = {
            name: {
                field: np.load(folder / name / f"{field}.npy", mmap, allow_pickle=False)
                for field in _array_fields(kind)
            }
            for name, kind, mmap in (("items", ItemArrays, None), ("moments", MomentArrays, _READ))
        }
        texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InterestModelError(
            f"{folder} holds no saved arrays: {error}. Write them with models.interest.saved_fit.save_arrays"
        ) from None
    items, moments = ItemArrays(texts=texts, **read["items"]), MomentArrays(**read["moments"])
    items.check(config)
    moments.check(len(items), len(config.actions))
    return items, moments, config


def _array_fields(kind: type[ItemArrays] | type[MomentArrays]) -> list[str]:
    return [field.name for field in fields(kind) if field.name != "texts"]
