"""The compiled loops of the state: plain, short, over rows in order of time. Nothing here knows a name.

Instants are UTC microseconds. An entry is one key's row in the arrays of a counter. It holds one number per quantity
and half-life, as of its last update: on the next one they decay by the time since, and then grow. A lookup decays a
copy. An entry that nothing updated for longer than its TTL counts as empty and starts again.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.state.compiled import compiled

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
NEVER = np.iinfo(np.int64).min
"""In place of an instant: nothing happened yet."""
_LOW = 0xFFFFFFFF


class Entries(NamedTuple):
    """A counter's entries as arrays."""

    values: Floats
    """[entry, quantity × half-life]"""
    last_at: Ints
    clicked_at: Ints


class Rule(NamedTuple):
    """How a counter's entries decay and expire."""

    rates: Floats
    """Of each half-life: ln 2 / microseconds; 0 for none."""
    ttl: int
    """Microseconds; negative for never."""
    clicks: int
    """Column of the clicks that do not decay."""


class Rows(NamedTuple):
    """Rows in order of time. Row r concerns the entries `entry[start[r]:start[r + 1]]`."""

    at: Ints
    start: Ints
    entry: Ints
    """-1: a key without an entry."""
    amount: Floats
    """[row, column]: what an update adds."""
    column: Ints
    quantity: Ints
    """Column `column[k]` of `amount` adds to quantity `quantity[k]`."""
    click: int
    """Column of `amount` that is positive for clicks, or -1."""


@compiled
def locate(
    codes: Ints, first: int, found: Ints, slots: Ints, known: Ints, size: int, insert: bool
) -> tuple[int, int]:
    """Entry of each code from `first` on, into `found`; new codes get the next entries, or -1 without `insert`.

    `slots` is an open-addressing hash table of entries, a power of two long, -1 where empty; `known` the code of each
    entry. Returns how far it came, and the number of entries: it stops when the table is half full.
    """
    bits = 0
    while (1 << bits) < slots.size:
        bits += 1
    mask = slots.size - 1
    for n in range(first, codes.size):
        code = codes[n]
        # Both halves are below 2³¹, so that neither product overflows.
        mixed = ((code >> 32) * 0x9E3779B1 & _LOW) + ((code & _LOW) * 0x85EBCA77 & _LOW)
        place = (mixed & _LOW) >> (32 - bits)
        entry = slots[place]
        while entry >= 0 and known[entry] != code:
            place = (place + 1) & mask
            entry = slots[place]
        if entry < 0 and insert:
            if size * 2 >= slots.size or size >= known.size:
                return n, size
            entry = size
            slots[place] = entry
            known[entry] = code
            size += 1
        found[n] = entry
    return codes.size, size


@compiled
def slots_of(owner: Ints, start: Ints) -> Ints:
    """First slot of each row whose owner (-1: none) has the slots `start[owner]:start[owner + 1]`, and their number."""
    out = np.zeros(owner.size + 1, np.int64)
    for row in range(owner.size):
        own = owner[row]
        out[row + 1] = out[row] + (start[own + 1] - start[own] if own >= 0 else 0)
    return out


@compiled
def codes_of(owner: Ints, start: Ints, value: Ints, high: Ints, slots: Ints) -> Ints:
    """Code of each row's slots: the row's `high` in the upper half, a value of its owner in the lower."""
    out = np.empty(slots[-1], np.int64)
    for row in range(owner.size):
        own, to = owner[row], slots[row]
        if own >= 0:
            for n in range(start[own], start[own + 1]):
                out[to] = (high[row] << 32) | value[n]
                to += 1
    return out


@compiled
def _live(entries: Entries, rule: Rule, entry: int, at: int) -> bool:
    last = entries.last_at[entry]
    return last != NEVER and (rule.ttl < 0 or at - last <= rule.ttl)


@compiled
def _read(entries: Entries, rule: Rule, entry: int, at: int, wanted: Ints, out: Floats, row: int) -> None:
    """Add an entry's numbers as of `at` to a row of `out`; of instants keep the latest."""
    width, spans = entries.values.shape[1], rule.rates.size
    last, clicked = entries.last_at[entry], entries.clicked_at[entry]
    left = 1.0
    span = -1
    for k in range(wanted.size):
        column = wanted[k]
        if column < width:
            if column % spans != span:
                span = column % spans
                rate = rule.rates[span]
                left = math.exp(-rate * (at - last)) if rate > 0 else 1.0
            out[k, row] += entries.values[entry, column] * left
        elif column == width:
            if not out[k, row] >= last:
                out[k, row] = last
        elif column == width + 1:
            if clicked != NEVER and not out[k, row] >= clicked:
                out[k, row] = clicked
        elif entries.values[entry, rule.clicks] > 0:
            out[k, row] += 1.0


@compiled
def _update(entries: Entries, rule: Rule, entry: int, at: int, rows: Rows, row: int) -> None:
    """Let an entry decay to `at`, or start again if it expired, and add the row's amounts."""
    values, spans = entries.values, rule.rates.size
    if not _live(entries, rule, entry, at):
        values[entry, :] = 0.0
        entries.clicked_at[entry] = NEVER
    else:
        elapsed = at - entries.last_at[entry]
        for span in range(spans):
            if elapsed > 0 and rule.rates[span] > 0:
                left = math.exp(-rule.rates[span] * elapsed)
                for column in range(span, values.shape[1], spans):
                    values[entry, column] *= left
    entries.last_at[entry] = at
    for k in range(rows.column.size):
        amount = rows.amount[row, rows.column[k]]
        if amount != 0:
            first = rows.quantity[k] * spans
            for column in range(first, first + spans):
                values[entry, column] += amount
    if rows.click >= 0 and rows.amount[row, rows.click] > 0:
        entries.clicked_at[entry] = at


@compiled
def count(
    entries: Entries,
    rule: Rule,
    shown: Rows,
    done: Rows,
    wanted: Ints,
    out: Floats,
    prior: Floats,
    update: bool,
) -> None:
    """One pass in order of time: of each instant first all lookups of `shown`, then all updates, `shown` before `done`.

    `out[k, row]` gets column `wanted[k]`, summed over the row's entries: a column of `values`, or beyond them the last
    update, the last click, and the number of entries that were ever clicked. `prior`, unless empty, gets the clicks of
    each slot of `done` just before its update. Without `update` there are lookups only.
    """
    row, interaction = 0, 0
    while row < shown.at.size or interaction < done.at.size:
        at = shown.at[row] if row < shown.at.size else done.at[interaction]
        if interaction < done.at.size and done.at[interaction] < at:
            at = done.at[interaction]
        until = row
        while until < shown.at.size and shown.at[until] == at:
            if wanted.size:
                for slot in range(shown.start[until], shown.start[until + 1]):
                    entry = shown.entry[slot]
                    if entry >= 0 and _live(entries, rule, entry, at):
                        _read(entries, rule, entry, at, wanted, out, until)
            until += 1
        if update:
            for n in range(row, until):
                for slot in range(shown.start[n], shown.start[n + 1]):
                    _update(entries, rule, shown.entry[slot], at, shown, n)
        row = until
        while interaction < done.at.size and done.at[interaction] == at:
            for slot in range(done.start[interaction], done.start[interaction + 1]):
                entry = done.entry[slot]
                if prior.size:
                    prior[slot] = (
                        entries.values[entry, rule.clicks] if _live(entries, rule, entry, at) else 0.0
                    )
                _update(entries, rule, entry, at, done, interaction)
            interaction += 1


@compiled
def versions_seen(item: Ints, at: Ints, first: Ints, known_at: Ints) -> Ints:
    """Of each row's item the last version known before `at`, or -1; versions are in order of (item, known_at)."""
    out = np.full(item.size, -1, np.int64)
    for row in range(item.size):
        version = first[item[row] + 1] - 1
        while version >= first[item[row]] and known_at[version] >= at[row]:
            version -= 1
        if version >= first[item[row]]:
            out[row] = version
    return out


@compiled
def latest_sights(pair: Ints, at: Ints, sight_pair: Ints, sight_at: Ints, window: int, pairs: int) -> Ints:
    """Of each interaction the last sight of its pair at or before it, at most `window` older, or -1.

    Pairs of a user and an item are numbered; -1 is none of them. Both kinds of rows are in order of time.
    """
    out, last, sight = np.full(pair.size, -1, np.int64), np.full(pairs, -1, np.int64), 0
    for row in range(pair.size):
        while sight < sight_at.size and sight_at[sight] <= at[row]:
            if sight_pair[sight] >= 0:
                last[sight_pair[sight]] = sight
            sight += 1
        found = last[pair[row]]
        if found >= 0 and at[row] - sight_at[found] <= window:
            out[row] = found
    return out


@compiled
def run_sessions(
    entry: Ints, at: Ints, counts: Floats, gap: int, last_at: Ints, held: Floats, out: Floats
) -> None:
    """The session of each list as of just before it, into `out`; `last_at` and `held` go on, by entry.

    `held` and `out`: when it began, lists so far, and `counts` (exposures, clicks of the user) when it began. A list
    that comes more than `gap` after the one before begins a session.
    """
    row = 0
    while row < at.size:
        until = row
        while until < at.size and at[until] == at[row]:
            e = entry[until]
            if last_at[e] != NEVER and at[row] - last_at[e] <= gap:
                out[:, until] = held[e]
            else:
                out[0, until], out[1, until] = at[row], 0.0
                out[2, until], out[3, until] = counts[0, until], counts[1, until]
            until += 1
        for n in range(row, until):
            e = entry[n]
            if last_at[e] != at[row]:
                held[e, :] = out[:, n]
                last_at[e] = at[row]
            held[e, 1] += 1.0
        row = until


@compiled
def next_lists(user: Ints, at: Ints, users: int) -> Ints:
    """Instant of each user's next list after each list's instant, or `NEVER`; lists are in order of time."""
    out, following = np.full(at.size, NEVER, np.int64), np.full(users, NEVER, np.int64)
    row = at.size - 1
    while row >= 0:
        first = row
        while first >= 0 and at[first] == at[row]:
            out[first] = following[user[first]]
            first -= 1
        for n in range(first + 1, row + 1):
            following[user[n]] = at[n]
        row = first
    return out
