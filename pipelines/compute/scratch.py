"""Scratch storage in which workers pass frames to each other: a folder or an object store's prefix."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import polars as pl
from deltalake.fs import DeltaStorageHandler

from features.atomic import replacing


@dataclass(frozen=True)
class Scratch:
    """Files of frames under one root. Writes are atomic and may be repeated."""

    root: str
    storage_options: Mapping[str, str] = field(default_factory=dict)

    def write(self, name: str, frames: Mapping[str, pl.DataFrame]) -> None:
        """Write frames of any columns to one file, because many small files are slow."""
        # Each frame becomes a struct column, null in the rows of other frames; a frame without columns is left out.
        columns = [
            frame.select(pl.struct(pl.all()).alias(key)) for key, frame in frames.items() if frame.width
        ]
        packed = pl.concat(columns, how="diagonal")
        if self._local is None:
            packed.write_ipc(f"{self.root}/{name}", compression="zstd", storage_options=self._options)
            return
        file = self._local / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as draft:
            packed.write_ipc(draft, compression="zstd")

    def read(self, name: str, key: str) -> pl.DataFrame:
        """One frame of a file, rows in order; an empty frame if it was written without columns."""
        path = f"{self.root}/{name}" if self._local is None else self._local / name
        packed = pl.scan_ipc(path, glob=False, storage_options=self._options)
        if key not in packed.collect_schema():
            return pl.DataFrame()
        return packed.select(pl.col(key)).collect().to_series().drop_nulls().struct.unnest()

    def remove(self, name: str = "") -> None:
        """Remove all files under a name, by default under the root; no error if there are none."""
        if self._local is not None:
            shutil.rmtree(self._local / name, ignore_errors=True)
        else:
            DeltaStorageHandler(self.root, self._options).delete_dir(name)

    @property
    def _local(self) -> Path | None:
        """The root as a local path; None for an object store."""
        if self.root.startswith("file://"):
            return Path(url2pathname(urlparse(self.root).path))
        return None if "://" in self.root else Path(self.root)

    @property
    def _options(self) -> dict[str, str]:
        return dict(self.storage_options)
