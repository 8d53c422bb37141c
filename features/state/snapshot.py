"""Counters as stored tables, and back: ids instead of numbers, rows in order of their keys.

Numbers are stored as of their entry's last update, `last_at`, not as of the table's instant, so that an untouched
entry keeps its bytes from slice to slice.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.schemas import INSTANT
from features.state.counters import INSTANTS, Counter
from features.state.entities import Entities
from features.state.kernels import NEVER
from features.state.table import Table

Ints = NDArray[np.int64]


def empty(counter: Counter) -> pl.DataFrame:
    """A counter's stored table without rows."""
    keys = {key: pl.Int32 if key == "position" else pl.String for key in counter.keys}
    return pl.DataFrame(
        schema=keys | dict.fromkeys(counter.columns, pl.Float64) | dict.fromkeys(INSTANTS, INSTANT)
    )


def restore(frame: pl.DataFrame, counter: Counter, name: str, ids: Sequence[Entities]) -> Table:
    """The entries of a stored table; with attribute or context keys, those of the attribute or field `name`."""
    part = next((key for key in ("attribute", "context") if key in counter.keys), None)
    rows = frame.filter(pl.col(part) == name) if part else frame
    keys = [key for key in counter.keys if key in ("user_id", "item_id", "value")]
    codes = np.zeros(rows.height, np.int64)
    if "position" in counter.keys:
        codes = rows["position"].to_numpy().astype(np.int64)
    for key, entities in zip(keys, ids, strict=True):
        codes = codes << 32 | entities.encode(rows[key])
    values = np.empty((rows.height, len(counter.columns) + len(INSTANTS)))
    for n, column in enumerate(counter.columns):
        values[:, n] = rows[column].to_numpy()
    for n, instant in enumerate(INSTANTS, len(counter.columns)):
        values.view(np.int64)[:, n] = rows[instant].to_physical().fill_null(NEVER).to_numpy()
    return Table(counter, codes, values)


def frame(
    counter: Counter, tables: Sequence[tuple[str, Table, Sequence[Entities]]], at: int, *, decayed: bool
) -> pl.DataFrame:
    """The stored table of a counter's parts (name, table, entities): the entries live at an instant.

    Rows are in order of part, then key.
    """
    frames = [
        _part(counter, name, table, ids, at, decayed)
        for name, table, ids in sorted(tables, key=lambda p: p[0])
    ]
    return pl.concat([empty(counter), *frames])


def _part(
    counter: Counter, name: str, table: Table, ids: Sequence[Entities], at: int, decayed: bool
) -> pl.DataFrame:
    rows = np.flatnonzero(table.live(at))
    # By id, not by number: numbers depend on the order in which ids first appeared.
    ranks = [e.ranks()[n] for e, n in zip(ids, _split(table.codes[rows], len(ids)), strict=True)]
    order = np.argsort(ranks[0] << 32 | ranks[-1] if ranks else table.codes[rows], kind="stable")
    rows = rows[order]
    numbers = _split(table.codes[rows], len(ids))
    entries = table.entries
    values = entries.values[rows, : len(counter.columns)]
    last_at, clicked_at = entries.instants[rows, -2], entries.instants[rows, -1]
    if decayed:
        spans = np.arange(values.shape[1]) % table.rule.rates.size
        values = values * np.exp(-table.rule.rates[spans][None, :] * (at - last_at)[:, None])
    id_columns = iter(e.decode(n) for e, n in zip(ids, numbers, strict=True))
    keys = {}
    for key in counter.keys:
        if key in ("attribute", "context"):
            keys[key] = pl.repeat(name, rows.size, dtype=pl.String, eager=True)
        elif key == "everything":
            keys[key] = pl.repeat("", rows.size, dtype=pl.String, eager=True)
        elif key == "position":
            keys[key] = pl.Series(table.codes[rows], dtype=pl.Int32)
        else:
            keys[key] = next(id_columns)
    columns = {
        column: pl.Series(np.ascontiguousarray(values[:, n])) for n, column in enumerate(counter.columns)
    }
    instants = {"last_at": _instants(last_at), "clicked_at": _instants(clicked_at)}
    return pl.DataFrame(keys | columns | instants, schema=empty(counter).schema)


def _split(codes: Ints, halves: int) -> list[Ints]:
    """The entity numbers in the halves of codes."""
    return [codes >> 32, codes & 0xFFFFFFFF] if halves == 2 else [codes][:halves]


def _instants(at: Ints) -> pl.Series:
    return pl.Series(at).replace(NEVER, None).cast(INSTANT)
