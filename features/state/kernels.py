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
NEVER = -(2**62)
"""In place of an instant: nothing happened yet."""
_LOW = 0xFFFFFFFF


INSTANTS = 2
"""Columns of an entry after its numbers: the instants of its last update and its last click."""


class Entries(NamedTuple):
    """A counter's entries, each one row of memory: [entry, quantity × half-life, then `INSTANTS`]."""

    values: Floats
    instants: Ints
    """The same memory as integers."""


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
def _slot(code: int, bits: int) -> int:
    """Where the search for a code begins among 2^bits slots."""
    # Both halves are below 2³¹, so that neither product overflows.
    mixed = ((code >> 32) * 0x9E3779B1 & _LOW) + ((code & _LOW) * 0x85EBCA77 & _LOW)
    return (mixed & _LOW) >> (32 - bits)


@compiled
def rehash(known: Ints, size: int, slots: NDArray[np.int32]) -> None:
    """Enter the first codes, all different, into empty slots."""
    bits = 0
    while (1 << bits) < slots.size:
        bits += 1
    for entry in range(size):
        place = _slot(known[entry], bits)
        while slots[place] >= 0:
            place = (place + 1) & (slots.size - 1)
        slots[place] = entry


@compiled
def locate(
    codes: Ints, first: int, found: Ints, slots: NDArray[np.int32], known: Ints, size: int, insert: bool
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
        place = _slot(code, bits)
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

    `out[k, row]` gets column `wanted[k]`, summed over the row's entries: a number, or after them the last update and
    the last click (the latest of all), and the number of entries that were ever clicked. `prior`, unless
    empty, gets the clicks of each slot of `done` just before its update. Without `update` there are lookups only.
    """
    shown_at, done_at, row, interaction = shown.at, done.at, 0, 0
    spans = rule.rates.size
    left, span_of, none = np.ones((64, spans)), wanted % spans, np.empty((0, spans))
    while row < shown_at.size or interaction < done_at.size:
        at = shown_at[row] if row < shown_at.size else done_at[interaction]
        if interaction < done_at.size and done_at[interaction] < at:
            at = done_at[interaction]
        until, end = row, interaction
        while until < shown_at.size and shown_at[until] == at:
            until += 1
        while end < done_at.size and done_at[end] == at:
            end += 1
        if wanted.size:
            if shown.start[until] - shown.start[row] > left.shape[0]:
                left = np.ones((shown.start[until] - shown.start[row], spans))
            _look_up(entries, rule, shown, row, until, at, wanted, span_of, left, out)
        if update:
            _update(entries, rule, shown, row, until, at, left if wanted.size else none, prior[:0])
            _update(entries, rule, done, interaction, end, at, none, prior)
        row, interaction = until, end


@compiled
def _look_up(
    entries: Entries, rule: Rule, rows: Rows, first: int, until: int, at: int, wanted: Ints, span_of: Ints,
    left: Floats, out: Floats,
) -> None:  # fmt: skip
    """Add each entry's numbers as of `at` to its row of `out`; of instants keep the latest.

    `left[slot]`, from the first row's first slot on, gets what is left of the entry's numbers, by half-life.
    """
    # Arrays by name: each use of a tuple's field counts a reference, which takes longer than the arithmetic.
    values, instants = entries.values, entries.instants
    rates, ttl, clicks, start, slots = rule.rates, rule.ttl, rule.clicks, rows.start, rows.entry
    width, begin = values.shape[1] - INSTANTS, start[first]
    for row in range(first, until):
        for slot in range(start[row], start[row + 1]):
            entry = slots[slot]
            if entry < 0:
                continue
            last_at = instants[entry, width]
            if last_at == NEVER or 0 <= ttl < at - last_at:
                continue
            kept = left[slot - begin]
            for span in range(rates.size):
                if rates[span] > 0:
                    kept[span] = math.exp(-rates[span] * (at - last_at))
            for k in range(wanted.size):
                column = wanted[k]
                if column < width:
                    out[k, row] += values[entry, column] * kept[span_of[k]]
                elif column == width + INSTANTS:
                    out[k, row] += values[entry, clicks] > 0
                else:
                    instant = instants[entry, column]
                    if instant != NEVER and not out[k, row] >= instant:
                        out[k, row] = instant


@compiled
def _update(  # noqa: PLR0912
    entries: Entries, rule: Rule, rows: Rows, first: int, until: int, at: int, left: Floats, prior: Floats
) -> None:
    """Let each entry decay to `at`, or start again if it expired, and add its row's amounts.

    `left`, unless empty, is what a lookup of these rows found to be left.
    """
    values, instants = entries.values, entries.instants
    rates, ttl, clicks, start, slots = rule.rates, rule.ttl, rule.clicks, rows.start, rows.entry
    amounts, columns, quantities, click = rows.amount, rows.column, rows.quantity, rows.click
    width, spans, begin = values.shape[1] - INSTANTS, rates.size, start[first]
    for row in range(first, until):
        for slot in range(start[row], start[row + 1]):
            entry = slots[slot]
            last_at = instants[entry, width]
            if last_at == NEVER or 0 <= ttl < at - last_at:
                instants[entry, width + 1] = NEVER
                for column in range(width):
                    values[entry, column] = 0.0
            elif at > last_at:
                for span in range(spans):
                    if rates[span] > 0:
                        kept = (
                            left[slot - begin, span] if left.size else math.exp(-rates[span] * (at - last_at))
                        )
                        for column in range(span, width, spans):
                            values[entry, column] *= kept
            if prior.size:
                prior[slot] = values[entry, clicks]
            instants[entry, width] = at
            for k in range(columns.size):
                amount = amounts[row, columns[k]]
                if amount != 0:
                    for span in range(spans):
                        values[entry, quantities[k] * spans + span] += amount
            if click >= 0 and amounts[row, click] > 0:
                instants[entry, width + 1] = at


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
def latest_exposures(
    pair: Ints, at: Ints, exposure_pair: Ints, exposure_at: Ints, window: int, pairs: int
) -> Ints:
    """Of each interaction the last sight of its pair at or before it, at most `window` older, or -1.

    Pairs of a user and an item are numbered; -1 is none of them. Both kinds of rows are in order of time.
    """
    out, last, exposure = np.full(pair.size, -1, np.int64), np.full(pairs, -1, np.int64), 0
    for row in range(pair.size):
        while exposure < exposure_at.size and exposure_at[exposure] <= at[row]:
            if exposure_pair[exposure] >= 0:
                last[exposure_pair[exposure]] = exposure
            exposure += 1
        found = last[pair[row]]
        if found >= 0 and at[row] - exposure_at[found] <= window:
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


@compiled
def newest(
    old: Ints, new: Ints, old_skips: NDArray[np.bool_], new_skips: NDArray[np.bool_], most: int, of_kind: int
) -> Ints:
    """Rows to keep, as numbers among old and new together, by user: the old ones of a user, then the new ones.

    `old` and `new` are the users of the rows, in order. Of a user the last `most` rows stay, the last `of_kind` skips,
    and as many others.
    """
    keep = np.empty(old.size + new.size, np.int64)
    count, a, b = 0, old.size - 1, new.size - 1
    while a >= 0 or b >= 0:
        user = max(old[a] if a >= 0 else -1, new[b] if b >= 0 else -1)
        seen, skips = 0, 0
        while (b >= 0 and new[b] == user) or (a >= 0 and old[a] == user):
            is_new = b >= 0 and new[b] == user
            skip = new_skips[b] if is_new else old_skips[a]
            if seen < most or (skips if skip else seen - skips) < of_kind:
                keep[count] = old.size + b if is_new else a
                count += 1
            seen += 1
            skips += skip
            if is_new:
                b -= 1
            else:
                a -= 1
    return keep[:count][::-1].copy()
