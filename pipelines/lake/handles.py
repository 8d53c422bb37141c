"""A cache of open tables: reopening reads only the commits since, not the whole log."""

import threading
from collections.abc import Mapping

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from deltalake.fs import DeltaStorageHandler

_FIRST_COMMIT = "_delta_log/00000000000000000000.json"
_Key = tuple[str, tuple[tuple[str, str], ...]]


class Handles(threading.local):
    """Open tables by location and options. Cached per thread: updating a handle changes it for all its readers."""

    def __init__(self) -> None:
        self._cache: dict[_Key, tuple[DeltaTable, int | None]] = {}

    def open(self, location: str, options: Mapping[str, str]) -> DeltaTable:
        """Open the current version of a table. Raises TableNotFoundError if there is none (any more)."""
        key = (location, tuple(sorted(options.items())))
        created = _created(location, options)
        table, cached = self._cache.pop(key, (None, None))
        if table is None or created != cached or not _is_current(table):
            table = DeltaTable(location, storage_options=dict(options))
        self._cache[key] = (table, created)
        return table


def _created(location: str, options: Mapping[str, str]) -> int | None:
    """Creation time in ns, which tells a table from a recreated one; None once the first commit is cleaned up."""
    info = DeltaStorageHandler(location, dict(options)).get_file_info([_FIRST_COMMIT])[0]
    created: int | None = info.mtime_ns
    return created


def _is_current(table: DeltaTable) -> bool:
    """Update the handle; False if the commits after its version were cleaned up."""
    try:
        table.update_incremental()
    except DeltaError:
        return False
    return True
