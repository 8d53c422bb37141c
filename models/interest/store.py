"""Rows of different lengths on disk by content hash, so that no text is encoded twice.

A shard is two files written once: `<name>.rows.npy` has the rows end to end, `<name>.keys.npy` their keys and
lengths. The keys are renamed into place last, which makes a shard atomic.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

_log = logging.getLogger(__name__)
_KEYS = np.dtype([("key", "S32"), ("length", "<i8")])


def key(text: str) -> bytes:
    """Content hash of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32].encode()


class RowStore:
    """Rows [length, width] by key; without a folder, in memory only."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._rows: dict[bytes, npt.NDArray[np.generic]] = {}
        if folder is not None and folder.is_dir():
            for keys in sorted(folder.glob("*.keys.npy")):
                self._open(keys)

    def _open(self, path: Path) -> None:
        """Read a shard; delete a damaged one, whose rows are then computed again."""
        content = path.with_name(path.name.replace(".keys.", ".rows."))
        try:
            index = np.load(path, allow_pickle=False)
            rows = np.load(content, mmap_mode="r", allow_pickle=False)
            ends = np.cumsum(index["length"])
            whole = index.dtype == _KEYS and int(index["length"].sum()) == len(rows)
        except (OSError, ValueError, EOFError, IndexError):
            whole = False
        if not whole:
            _log.warning("the cache file %s is damaged and deleted; its rows are computed again", path)
            path.unlink(missing_ok=True)
            content.unlink(missing_ok=True)
            return
        for name, length, end in zip(
            index["key"].tolist(), index["length"].tolist(), ends.tolist(), strict=True
        ):
            self._rows[name] = rows[end - length : end]

    def missing(self, keys: Sequence[bytes]) -> list[int]:
        """Positions of the keys without a row."""
        return [number for number, name in enumerate(keys) if name not in self._rows]

    def get(self, name: bytes) -> npt.NDArray[np.generic]:
        """The row of a key."""
        return self._rows[name]

    def put(self, keys: Sequence[bytes], rows: Sequence[npt.NDArray[np.generic]]) -> None:
        """Add rows, in one new shard of the folder."""
        if not keys:
            return
        self._rows.update(zip(keys, rows, strict=True))
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(b"".join(keys)).hexdigest()[:16]
        index = np.array([(k, len(row)) for k, row in zip(keys, rows, strict=True)], dtype=_KEYS)
        for kind, content in (("rows", np.concatenate(rows)), ("keys", index)):
            partial = self._folder / f"{name}.{kind}.{os.getpid()}.partial"
            with partial.open("wb") as file:
                np.save(file, content, allow_pickle=False)
            os.replace(partial, self._folder / f"{name}.{kind}.npy")
