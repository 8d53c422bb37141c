"""Candidate lists for logs that hold interactions only: drawn as of each moment, without a look ahead.

Every item gets one ticket when it becomes known and one more for each interaction with it, when that becomes
known. A list drawn at t takes tickets uniformly among those strictly before t, so an item's weight is its
interactions known so far + 1. Tickets are ordered by time: later rows add tickets behind all that an earlier
list could draw from, and never change that list.
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
"""Rounds of drawing, each with four times the draws; a list still short is completed evenly."""


@dataclass
class Past:
    """What lists are drawn from beside the rows at hand: interactions and items that were read before."""

    rows: pl.DataFrame = field(default_factory=_ROWS.to_frame)
    """As `draw_lists` takes them."""
    items: pl.DataFrame = field(default_factory=_ITEMS.to_frame)
    """`item_id, known_at`, without nulls."""

    def add(self, rows: pl.DataFrame | None = None, items: pl.DataFrame | None = None) -> None:
        """What was read since."""
        if rows is not None:
            self.rows = pl.concat([self.rows, rows.select(_ROWS.names())])
        if items is not None:
            self.items = pl.concat([self.items, items.select(_ITEMS.names())])


def draw_lists(rows: pl.DataFrame, past: Past, size: int, seed: int) -> pl.Series:
    """A list of at most `size` item ids around each row's item.

    Rows, without nulls: `key` (what seeds the row's draws), `item`, `at`, and `known`, when the interaction
    became known. The row's own item stands at a drawn place; the others are
    distinct and were known strictly before `at`. Fewer were known: a shorter list.
    """
    if rows.is_empty():
        return pl.Series("items", [], pl.List(pl.String))
    items, told = past.items, pl.concat([rows.select(_ROWS.names()), past.rows])
    names = pl.concat([told["item"], items["item_id"]])
    ids = names.unique().sort()
    codes = (names.rank("dense").cast(pl.Int64) - 1).to_numpy()
    own, listed = codes[: told.height], codes[told.height :]
    at = rows["at"].dt.epoch("us").to_numpy()
    known = told["known"].dt.epoch("us").to_numpy()
    once = (
        told.with_row_index("row")
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
    """splitmix64's finaliser (Steele, Lea and Flood, 2014): evenly spread 64 bits."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _draw(hashes: Hashes, own: Ints, ticket: Ints, tickets: Ints, wanted: Ints, width: int) -> Ints:
    """Distinct items other than the row's own, in the order drawn: [rows, width], −1 where draws ran out."""
    drawn = np.full((len(hashes), width), -1, np.int64)
    if width == 0:
        return drawn
    # A pool no larger than the list is taken whole by `_complete`: nothing is to be drawn.
    open_rows = np.flatnonzero((wanted == width) & (tickets > 0))
    draws = 2 * width + 8
    for _ in range(_ROUNDS):
        if not len(open_rows):
            break
        steps = np.arange(1, draws + 1, dtype=np.uint64) * _GOLDEN
        share = (_mix(hashes[open_rows, None] + steps) >> np.uint64(11)) * 2.0**-53
        picks = ticket[(share * tickets[open_rows, None]).astype(np.int64)]
        # Items with their draw's number, sorted as one integer: much faster than a stable argsort.
        numbered = np.sort(picks * draws + np.arange(draws), axis=1)
        ranked, order = np.divmod(numbered, draws)
        repeat = np.zeros(picks.shape, bool)
        np.put_along_axis(repeat, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], axis=1)
        sound = ~repeat & (picks != own[open_rows, None])
        place = np.cumsum(sound, axis=1) - 1
        row, draw = np.nonzero(sound & (place < width))
        drawn[open_rows[row], place[row, draw]] = picks[row, draw]
        open_rows = open_rows[place[:, -1] + 1 < width]
        draws *= 4
    return drawn


def _complete(others: Ints, hashes: Hashes, own: Ints, entry: Ints, entries: Ints, pool: Ints) -> None:
    """Fill, in place, lists that drawing left short with known items not yet in them, evenly drawn."""
    wanted = np.minimum(pool, others.shape[1])
    have = (others >= 0).sum(axis=1)
    for row in np.flatnonzero(have < wanted):
        known = entry[: entries[row]]
        taken = np.append(others[row, : have[row]], own[row])
        left = known[~np.isin(known, taken)]
        order = np.argsort(_mix(hashes[row] + left.astype(np.uint64) * _GOLDEN), kind="stable")
        others[row, have[row] : wanted[row]] = left[order][: wanted[row] - have[row]]


def _insert(others: Ints, own: Ints, hashes: Hashes) -> Ints:
    """Put each row's own item at a drawn place among the others."""
    length = (others >= 0).sum(axis=1)
    place = (_mix(~hashes) % (length + 1).astype(np.uint64)).astype(np.int64)
    columns = np.arange(others.shape[1] + 1)
    padded = np.concatenate([others, np.full((len(others), 1), -1)], axis=1)
    source = columns - (columns > place[:, None])
    lists: Ints = np.where(
        columns == place[:, None], own[:, None], np.take_along_axis(padded, source, axis=1)
    )
    return lists
