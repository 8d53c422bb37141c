"""A folder, or an object store's prefix, in which workers hand frames to each other; removed with the work."""

import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import polars as pl
from deltalake.fs import DeltaStorageHandler


@dataclass(frozen=True)
class Scratch:
    """Files of frames under one root. A file is there whole or not at all; written again, it is the same."""

    root: str
    storage_options: Mapping[str, str] = field(default_factory=dict)

    def write(self, name: str, frames: Mapping[str, pl.DataFrame]) -> None:
        """Keep frames, of whatever columns, in one file: many small files cost more than what is in them."""
        # Each is a column of structs, null where a row is another's; a frame without columns has nothing to keep.
        told = [frame.select(pl.struct(pl.all()).alias(key)) for key, frame in frames.items() if frame.width]
        packed = pl.concat(told, how="diagonal")
        if self._local is None:
            packed.write_ipc(f"{self.root}/{name}", compression="zstd", storage_options=self._options)
            return
        file = self._local / name
        file.parent.mkdir(parents=True, exist_ok=True)
        unseen = file.with_name(f".{file.name}-{uuid.uuid4()}")
        packed.write_ipc(unseen, compression="zstd")
        os.replace(unseen, file)

    def read(self, name: str, key: str) -> pl.DataFrame:
        """A frame of a file, its rows in order; one without rows and columns if it was kept without columns."""
        place = f"{self.root}/{name}" if self._local is None else self._local / name
        held = pl.scan_ipc(place, glob=False, storage_options=self._options)
        if key not in held.collect_schema():
            return pl.DataFrame()
        return held.select(pl.col(key)).collect().to_series().drop_nulls().struct.unnest()

    def remove(self, name: str = "") -> None:
        """Remove all files under a name, if there are any; under the root by default."""
        if self._local is not None:
            shutil.rmtree(self._local / name, ignore_errors=True)
        else:
            DeltaStorageHandler(self.root, self._options).delete_dir(name)

    @property
    def _local(self) -> Path | None:
        """The folder, where it is one of this machine's."""
        if self.root.startswith("file://"):
            return Path(url2pathname(urlparse(self.root).path))
        return None if "://" in self.root else Path(self.root)

    @property
    def _options(self) -> dict[str, str]:
        return dict(self.storage_options)
