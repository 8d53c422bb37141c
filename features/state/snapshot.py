"""Counters as tables that can be stored, and back: ids instead of numbers, rows in order of their keys.

A number is stored as of its entry's last update, `last_at`, not as of the table's instant: what nothing touched keeps
its bytes from slice to slice, however many there are.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.state.counters import INSTANTS, Counter
from features.state.entities import Entities
from features.state.kernels import NEVER
from features.state.table import Table

Ints = NDArray[np.int64]
_INSTANT = pl.Datetime("us", "UTC")


def empty(counter: Counter) -> pl.DataFrame:
    """The stored table of a counter that counted nothing."""
    keys = {key: pl.Int32 if key == "position" else pl.String for key in counter.keys}
    return pl.DataFrame(
        schema=keys | dict.fromkeys(counter.columns, pl.Float64) | dict.fromkeys(INSTANTS, _INSTANT)
    )


def restore(frame: pl.DataFrame, counter: Counter, name: str, ids: Sequence[Entities]) -> Table:
    """The entries of a stored table; of those that are kept apart, the ones of an attribute or fact `name`."""
    apart = next((key for key in ("attribute", "context") if key in counter.keys), None)
    rows = frame.filter(pl.col(apart) == name) if apart else frame
    keys = [key for key in counter.keys if key in ("user_id", "item_id", "value")]
    codes = np.zeros(rows.height, np.int64)
    if "position" in counter.keys:
        codes = rows["position"].to_numpy().astype(np.int64)
    for key, known in zip(keys, ids, strict=True):
        codes = codes << 32 | known.encode(rows[key])
    values = np.empty((rows.height, len(counter.columns) + len(INSTANTS)))
    for n, column in enumerate(counter.columns):
        values[:, n] = rows[column].to_numpy()
    for n, instant in enumerate(INSTANTS, len(counter.columns)):
        values.view(np.int64)[:, n] = rows[instant].to_physical().fill_null(NEVER).to_numpy()
    return Table(counter, codes, values)


def frame(
    counter: Counter, held: Sequence[tuple[str, Table, Sequence[Entities]]], at: int, *, decayed: bool
) -> pl.DataFrame:
    """The stored table of a counter's parts (name, table, entities), without what expired at an instant.

    Part by part, each in order of its keys.
    """
    made = [
        _part(counter, name, table, ids, at, decayed) for name, table, ids in sorted(held, key=lambda p: p[0])
    ]
    return pl.concat([empty(counter), *made])


def _part(
    counter: Counter, name: str, table: Table, ids: Sequence[Entities], at: int, decayed: bool
) -> pl.DataFrame:
    kept = np.flatnonzero(table.live(at))
    # By id, not by number: numbers depend on when an id was first met.
    ranks = [known.ranks()[n] for known, n in zip(ids, _split(table.codes[kept], len(ids)), strict=True)]
    order = np.argsort(ranks[0] << 32 | ranks[-1] if ranks else table.codes[kept], kind="stable")
    kept = kept[order]
    numbers = _split(table.codes[kept], len(ids))
    held = table.entries
    values = held.values[kept, : len(counter.columns)]
    last_at, clicked_at = held.instants[kept, -2], held.instants[kept, -1]
    if decayed:
        spans = np.arange(values.shape[1]) % table.rule.rates.size
        values = values * np.exp(-table.rule.rates[spans][None, :] * (at - last_at)[:, None])
    texts = iter(known.decode(n) for known, n in zip(ids, numbers, strict=True))
    keys = {}
    for key in counter.keys:
        if key in ("attribute", "context"):
            keys[key] = pl.repeat(name, kept.size, dtype=pl.String, eager=True)
        elif key == "everything":
            keys[key] = pl.repeat("", kept.size, dtype=pl.String, eager=True)
        elif key == "position":
            keys[key] = pl.Series(table.codes[kept], dtype=pl.Int32)
        else:
            keys[key] = next(texts)
    columns = {
        column: pl.Series(np.ascontiguousarray(values[:, n])) for n, column in enumerate(counter.columns)
    }
    instants = {"last_at": _instants(last_at), "clicked_at": _instants(clicked_at)}
    return pl.DataFrame(keys | columns | instants, schema=empty(counter).schema)


def _split(codes: Ints, halves: int) -> list[Ints]:
    """The numbers that codes are made of."""
    return [codes >> 32, codes & 0xFFFFFFFF] if halves == 2 else [codes][:halves]


def _instants(at: Ints) -> pl.Series:
    return pl.Series(at).replace(NEVER, None).cast(_INSTANT)
