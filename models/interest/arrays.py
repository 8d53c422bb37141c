"""What a fit reads, as a folder of plain .npy files: to be carried to a machine that has neither Polars nor the logs.

`items/` and `moments/` hold one file a field, `texts.json` the items' texts, `config.json` the configuration.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import Literal

import numpy as np

from .config import InterestConfig, InterestModelError
from .items import ItemArrays
from .moments import MomentArrays

_READ: Literal["r"] = "r"


def save_arrays(folder: Path, items: ItemArrays, moments: MomentArrays, config: InterestConfig) -> None:
    """Write `folder`; files of an earlier save are replaced."""
    for name, arrays in (("items", items), ("moments", moments)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for field in _array_fields(type(arrays)):
            np.save(folder / name / f"{field}.npy", getattr(arrays, field), allow_pickle=False)
    (folder / "texts.json").write_text(json.dumps(items.texts), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(config.as_dict(), indent=1), encoding="utf-8")


def load_arrays(folder: Path) -> tuple[ItemArrays, MomentArrays, InterestConfig]:
    """Read what `save_arrays` wrote; moments are mapped, so that the processes of a machine share them.

    Raises InterestModelError if something is missing or the arrays contradict each other.
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
            f"{folder} holds no saved arrays: {error}. Write them with models.interest.arrays.save_arrays"
        ) from None
    items, moments = ItemArrays(texts=texts, **read["items"]), MomentArrays(**read["moments"])
    items.check(config)
    moments.check(len(items), len(config.actions))
    return items, moments, config


def _array_fields(kind: type[ItemArrays] | type[MomentArrays]) -> list[str]:
    return [field.name for field in fields(kind) if field.name != "texts"]
