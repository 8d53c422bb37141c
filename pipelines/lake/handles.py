"""Open tables, kept for the next use: what was committed since is read, not the whole log again."""

import threading
from collections.abc import Mapping

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from deltalake.fs import DeltaStorageHandler

_FIRST_COMMIT = "_delta_log/00000000000000000000.json"
_Key = tuple[str, tuple[tuple[str, str], ...]]


class Handles(threading.local):
    """Tables by where they lie. Each thread has its own, for a handle moves on under whoever else reads it."""

    def __init__(self) -> None:
        self._kept: dict[_Key, tuple[DeltaTable, int | None]] = {}

    def open(self, location: str, options: Mapping[str, str]) -> DeltaTable:
        """The table as it is now; TableNotFoundError where there is none (any more)."""
        key = (location, tuple(sorted(options.items())))
        made = _made(location, options)
        table, known = self._kept.pop(key, (None, None))
        if table is None or made != known or not _is_current(table):
            table = DeltaTable(location, storage_options=dict(options))
        self._kept[key] = (table, made)
        return table


def _made(location: str, options: Mapping[str, str]) -> int | None:
    """When the table was made, in ns: one that was removed and made anew is another; None once its log is cut."""
    found = DeltaStorageHandler(location, dict(options)).get_file_info([_FIRST_COMMIT])[0]
    made: int | None = found.mtime_ns
    return made


def _is_current(table: DeltaTable) -> bool:
    """Whether the handle could be brought up to date: not where the commits that follow it were cleaned up."""
    try:
        table.update_incremental()
    except DeltaError:
        return False
    return True
