"""Sample candidates, point-in-time, for logs that hold interactions only.

An item gets one ticket when it becomes known and one more whenever an interaction with it becomes known.
Candidates at instant t are drawn uniformly from the tickets strictly before t, so an item's weight is 1 + the
number of its known interactions. Tickets are ordered by time, so later rows never change an earlier draw.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from features.sources.raw import INSTANT

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

_ROWS = pl.Schema({"key": pl.String(), "item": pl.String(), "at": INSTANT, "known": INSTANT})
_ITEMS = pl.Schema({"item_id": pl.String(), "known_at": INSTANT})
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_CHUNK = 16_384
_ROUNDS = 4
"""Rounds, each with four times the draws of the one before; lists still too short are completed uniformly."""


@dataclass
class Past:
    """Interactions and items that were read earlier: candidates are sampled from them too."""

    rows: pl.DataFrame = field(default_factory=_ROWS.to_frame)
    """In the columns of `draw_lists`."""
    items: pl.DataFrame = field(default_factory=_ITEMS.to_frame)
    """`item_id, known_at`, without nulls."""

    def add(self, rows: pl.DataFrame | None = None, items: pl.DataFrame | None = None) -> None:
        """Append rows and items."""
        if rows is not None:
            self.rows = pl.concat([self.rows, rows.select(_ROWS.names())])
        if items is not None:
            self.items = pl.concat([self.items, items.select(_ITEMS.names())])


def draw_lists(rows: pl.DataFrame, past: Past, size: int, seed: int) -> pl.Series:
    """Sample candidates around each row's item: lists of at most `size` distinct item ids.

    Rows, without nulls: `key` (seeds the row's draws), `item`, `at`, and `known`, when the interaction became
    known. The row's own item is at a random position; the others were known strictly before `at`. The list is
    shorter if fewer items were known.
    """
    if rows.is_empty():
        return pl.Series("items", [], pl.List(pl.String))
    items, interactions = past.items, pl.concat([rows.select(_ROWS.names()), past.rows])
    names = pl.concat([interactions["item"], items["item_id"]])
    ids = names.unique().sort()
    codes = (names.rank("dense").cast(pl.Int64) - 1).to_numpy()
    own, listed = codes[: interactions.height], codes[interactions.height :]
    at = rows["at"].dt.epoch("us").to_numpy()
    known = interactions["known"].dt.epoch("us").to_numpy()
    once = (
        interactions.with_row_index("row")
        .sort("known")
        .unique("key", keep="first", maintain_order=True)["row"]
        .to_numpy()
    )
    first = np.full(len(ids), np.iinfo(np.int64).max)
    np.minimum.at(first, listed, items["known_at"].dt.epoch("us").to_numpy())
    np.minimum.at(first, own[once], known[once])
    entry_time, entry = _in_order(first, np.arange(len(ids)))
    ticket_time, ticket = _in_order(
        np.concatenate([first, known[once]]), np.concatenate([np.arange(len(ids)), own[once]])
    )
    tickets = np.searchsorted(ticket_time, at, side="left")
    entries = np.searchsorted(entry_time, at, side="left")
    own = own[: rows.height]
    hashes = _hash(rows["key"].to_list(), seed)
    lists = np.full((rows.height, size), -1, np.int64)
    for start in range(0, rows.height, _CHUNK):
        part = slice(start, start + _CHUNK)
        pool = entries[part] - (first[own[part]] < at[part])
        others = _draw(hashes[part], own[part], ticket, tickets[part], np.minimum(pool, size - 1), size - 1)
        _complete(others, hashes[part], own[part], entry, entries[part], pool)
        lists[part] = _insert(others, own[part], hashes[part])
    flat = pl.Series("items", lists.ravel())
    shown = ids.gather(flat.set(flat < 0, None))
    return shown.reshape((rows.height, size)).arr.to_list().list.drop_nulls().alias("items")


def _in_order(times: Ints, codes: Ints) -> tuple[Ints, Ints]:
    order = np.lexsort((codes, times))
    return times[order], codes[order]


def _hash(keys: Sequence[str], seed: int) -> Hashes:
    salt = str(seed).encode()
    digests = b"".join(hashlib.blake2b(key.encode(), digest_size=8, key=salt).digest() for key in keys)
    return np.frombuffer(digests, dtype="<u8")


def _mix(numbers: Hashes) -> Hashes:
    """splitmix64's finaliser (Steele, Lea and Flood, 2014): uniform 64 bits."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _draw(hashes: Hashes, own: Ints, ticket: Ints, tickets: Ints, sizes: Ints, width: int) -> Ints:
    """Draw distinct items other than the row's own: [rows, width], in the order drawn, −1 where draws ran out."""
    drawn = np.full((len(hashes), width), -1, np.int64)
    if width == 0:
        return drawn
    # `_complete` uses a pool no larger than the list as it is.
    open_rows = np.flatnonzero((sizes == width) & (tickets > 0))
    draws = 2 * width + 8
    for _ in range(_ROUNDS):
        if not len(open_rows):
            break
        steps = np.arange(1, draws + 1, dtype=np.uint64) * _GOLDEN
        share = (_mix(hashes[open_rows, None] + steps) >> np.uint64(11)) * 2.0**-53
        picks = ticket[(share * tickets[open_rows, None]).astype(np.int64)]
        # Sorting item and draw number as one integer is much faster than a stable argsort.
        keyed = np.sort(picks * draws + np.arange(draws), axis=1)
        ranked, order = np.divmod(keyed, draws)
        repeat = np.zeros(picks.shape, bool)
        np.put_along_axis(repeat, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], axis=1)
        valid = ~repeat & (picks != own[open_rows, None])
        position = np.cumsum(valid, axis=1) - 1
        row, draw = np.nonzero(valid & (position < width))
        drawn[open_rows[row], position[row, draw]] = picks[row, draw]
        open_rows = open_rows[position[:, -1] + 1 < width]
        draws *= 4
    return drawn


def _complete(others: Ints, hashes: Hashes, own: Ints, entry: Ints, entries: Ints, pool: Ints) -> None:
    """Fill lists that are too short, in place, with other known items, drawn uniformly."""
    sizes = np.minimum(pool, others.shape[1])
    drawn = (others >= 0).sum(axis=1)
    for row in np.flatnonzero(drawn < sizes):
        known = entry[: entries[row]]
        used = np.append(others[row, : drawn[row]], own[row])
        unused = known[~np.isin(known, used)]
        order = np.argsort(_mix(hashes[row] + unused.astype(np.uint64) * _GOLDEN), kind="stable")
        others[row, drawn[row] : sizes[row]] = unused[order][: sizes[row] - drawn[row]]


def _insert(others: Ints, own: Ints, hashes: Hashes) -> Ints:
    """Insert each row's own item at a random position among the others."""
    length = (others >= 0).sum(axis=1)
    position = (_mix(~hashes) % (length + 1).astype(np.uint64)).astype(np.int64)
    columns = np.arange(others.shape[1] + 1)
    padded = np.concatenate([others, np.full((len(others), 1), -1)], axis=1)
    source = columns - (columns > position[:, None])
    lists: Ints = np.where(
        columns == position[:, None], own[:, None], np.take_along_axis(padded, source, axis=1)
    )
    return lists
