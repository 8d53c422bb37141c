"""The compiled loops of the state: plain and short, over integer codes and rows in order of time.

Instants are UTC microseconds. An entry is one key's row in the arrays of a counter: one number per quantity and
half-life, as of its last update. An update first decays the numbers to its instant, then adds; a lookup decays a copy.
An entry without an update for longer than its TTL counts as empty and starts again.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.state.compiled import compiled

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
NEVER = -(2**62)
"""The instant of what has not happened yet."""
_LOW = 0xFFFFFFFF


INSTANTS = 2
"""Columns after an entry's numbers: the instants of its last update and its last click."""


class Entries(NamedTuple):
    """A counter's entries: [entry, quantity × half-life, then `INSTANTS`]."""

    values: Floats
    instants: Ints
    """The same memory as integers."""


class Rule(NamedTuple):
    """How a counter's entries decay and expire."""

    rates: Floats
    """Per half-life: ln 2 / microseconds; 0 for no decay."""
    ttl: int
    """Microseconds; negative for never."""
    clicks: int
    """Column of the clicks without decay."""


class Rows(NamedTuple):
    """Rows in order of time. Row r looks up or updates the entries `entry[start[r]:start[r + 1]]`."""

    at: Ints
    start: Ints
    entry: Ints
    """-1 for a key without an entry."""
    amount: Floats
    """[row, column]: the increments of an update."""
    column: Ints
    quantity: Ints
    """Column `column[k]` of `amount` adds to quantity `quantity[k]`."""
    click: int
    """Column of `amount` that is positive for clicks, or -1."""


@compiled
def _slot(code: int, bits: int) -> int:
    """First slot to probe for a code, of 2^bits slots."""
    # Both halves are below 2³¹, so neither product overflows.
    mixed = ((code >> 32) * 0x9E3779B1 & _LOW) + ((code & _LOW) * 0x85EBCA77 & _LOW)
    return (mixed & _LOW) >> (32 - bits)


@compiled
def rehash(codes: Ints, size: int, slots: NDArray[np.int32]) -> None:
    """Insert the first `size` codes, all different, into empty slots."""
    bits = 0
    while (1 << bits) < slots.size:
        bits += 1
    for entry in range(size):
        slot = _slot(codes[entry], bits)
        while slots[slot] >= 0:
            slot = (slot + 1) & (slots.size - 1)
        slots[slot] = entry


@compiled
def locate(
    codes: Ints, first: int, entries: Ints, slots: NDArray[np.int32], known: Ints, size: int, insert: bool
) -> tuple[int, int]:
    """Write the entry of each code from `first` on to `entries`; new codes get new entries, or -1 without `insert`.

    `slots` is an open-addressing hash table of entries, a power of two long, -1 where empty; `known` holds the code of
    each entry. Stops when the table is half full; returns the number of codes done, and of entries.
    """
    bits = 0
    while (1 << bits) < slots.size:
        bits += 1
    mask = slots.size - 1
    for n in range(first, codes.size):
        code = codes[n]
        slot = _slot(code, bits)
        entry = slots[slot]
        while entry >= 0 and known[entry] != code:
            slot = (slot + 1) & mask
            entry = slots[slot]
        if entry < 0 and insert:
            if size * 2 >= slots.size or size >= known.size:
                return n, size
            entry = size
            slots[slot] = entry
            known[entry] = code
            size += 1
        entries[n] = entry
    return codes.size, size


@compiled
def slots_of(owner: Ints, start: Ints) -> Ints:
    """First slot of each row, then the number of slots; a row has one slot per value of its owner (-1: no owner)."""
    out = np.zeros(owner.size + 1, np.int64)
    for row in range(owner.size):
        own = owner[row]
        out[row + 1] = out[row] + (start[own + 1] - start[own] if own >= 0 else 0)
    return out


@compiled
def codes_of(owner: Ints, start: Ints, value: Ints, high: Ints, slots: Ints) -> Ints:
    """Code of each slot: the row's `high` in the upper half, a value of the row's owner in the lower."""
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
    columns: Ints,
    out: Floats,
    prior: Floats,
    update: bool,
) -> None:
    """Process rows in order of time: at each instant all lookups of `shown`, then the updates of `shown` and of `done`.

    `out[k, row]` receives column `columns[k]` over the row's entries: the sum of a number; after the numbers, the
    latest update, the latest click, and the count of entries with a click. `prior`, unless empty, receives the clicks
    of each slot of `done` before its update. Without `update`, only look up.
    """
    shown_at, done_at, row, interaction = shown.at, done.at, 0, 0
    spans = rule.rates.size
    left, span_of, none = np.ones((64, spans)), columns % spans, np.empty((0, spans))
    while row < shown_at.size or interaction < done_at.size:
        at = shown_at[row] if row < shown_at.size else done_at[interaction]
        if interaction < done_at.size and done_at[interaction] < at:
            at = done_at[interaction]
        until, end = row, interaction
        while until < shown_at.size and shown_at[until] == at:
            until += 1
        while end < done_at.size and done_at[end] == at:
            end += 1
        if columns.size:
            if shown.start[until] - shown.start[row] > left.shape[0]:
                left = np.ones((shown.start[until] - shown.start[row], spans))
            _look_up(entries, rule, shown, row, until, at, columns, span_of, left, out)
        if update:
            _update(entries, rule, shown, row, until, at, left if columns.size else none, prior[:0])
            _update(entries, rule, done, interaction, end, at, none, prior)
        row, interaction = until, end


@compiled
def _look_up(
    entries: Entries, rule: Rule, rows: Rows, first: int, until: int, at: int, columns: Ints, span_of: Ints,
    left: Floats, out: Floats,
) -> None:  # fmt: skip
    """Write the sum of the entries' numbers as of `at` to each row of `out`, NaN for an instant that none has.

    `left[slot]`, counted from the first row's first slot, receives the entry's decay factor per half-life.
    """
    # Local arrays: each access to a tuple's field counts a reference, which takes longer than the arithmetic.
    values, instants = entries.values, entries.instants
    rates, ttl, clicks, start, slots = rule.rates, rule.ttl, rule.clicks, rows.start, rows.entry
    width, begin = values.shape[1] - INSTANTS, start[first]
    for row in range(first, until):
        for k in range(columns.size):
            out[k, row] = np.nan if 0 <= columns[k] - width < INSTANTS else 0.0
        for slot in range(start[row], start[row + 1]):
            entry = slots[slot]
            if entry < 0:
                continue
            last_at = instants[entry, width]
            if last_at == NEVER or 0 <= ttl < at - last_at:
                continue
            factors = left[slot - begin]
            for span in range(rates.size):
                if rates[span] > 0:
                    factors[span] = math.exp(-rates[span] * (at - last_at))
            for k in range(columns.size):
                column = columns[k]
                if column < width:
                    out[k, row] += values[entry, column] * factors[span_of[k]]
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
    """Decay each entry to `at`, or reset it if it expired, and add its row's amounts.

    `left`, unless empty, holds the decay factors from the lookup of these rows.
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
                        factor = (
                            left[slot - begin, span] if left.size else math.exp(-rates[span] * (at - last_at))
                        )
                        for column in range(span, width, spans):
                            values[entry, column] *= factor
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
    """Last version of each row's item known before `at`, or -1; versions are in order of (item, known_at)."""
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
    """Last exposure of each interaction's pair at or before it, at most `window` older, or -1.

    Pairs (user, item) are numbers; exposures of pair -1 are ignored. Interactions and exposures are in order of time.
    """
    out, last, exposure = np.full(pair.size, -1, np.int64), np.full(pairs, -1, np.int64), 0
    for row in range(pair.size):
        while exposure < exposure_at.size and exposure_at[exposure] <= at[row]:
            if exposure_pair[exposure] >= 0:
                last[exposure_pair[exposure]] = exposure
            exposure += 1
        latest = last[pair[row]]
        if latest >= 0 and at[row] - exposure_at[latest] <= window:
            out[row] = latest
    return out


@compiled
def run_sessions(
    entry: Ints, at: Ints, counts: Floats, gap: int, last_at: Ints, sessions: Floats, out: Floats
) -> None:
    """Write the session of each impression, before the impression, to `out`; update `last_at` and `sessions`, by entry.

    A session is its start, its impressions so far, and `counts` (the user's exposures and clicks) at its start. An
    impression more than `gap` after the previous one starts a new session.
    """
    row = 0
    while row < at.size:
        until = row
        while until < at.size and at[until] == at[row]:
            e = entry[until]
            if last_at[e] != NEVER and at[row] - last_at[e] <= gap:
                out[:, until] = sessions[e]
            else:
                out[0, until], out[1, until] = at[row], 0.0
                out[2, until], out[3, until] = counts[0, until], counts[1, until]
            until += 1
        for n in range(row, until):
            e = entry[n]
            if last_at[e] != at[row]:
                sessions[e, :] = out[:, n]
                last_at[e] = at[row]
            sessions[e, 1] += 1.0
        row = until


@compiled
def next_lists(user: Ints, at: Ints, users: int) -> Ints:
    """Instant of the user's next impression after each impression, or `NEVER`; impressions are in order of time."""
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
    """Rows to keep, numbered over old then new rows; ordered by user, a user's old rows first.

    `old` and `new` hold the user of each row, sorted. Per user, keep the last `most` rows, the last `of_kind` skips and
    the last `of_kind` others.
    """
    keep = np.empty(old.size + new.size, np.int64)
    count, a, b = 0, old.size - 1, new.size - 1
    while a >= 0 or b >= 0:
        user = max(old[a] if a >= 0 else -1, new[b] if b >= 0 else -1)
        rows, skips = 0, 0
        while (b >= 0 and new[b] == user) or (a >= 0 and old[a] == user):
            is_new = b >= 0 and new[b] == user
            skip = new_skips[b] if is_new else old_skips[a]
            if rows < most or (skips if skip else rows - skips) < of_kind:
                keep[count] = old.size + b if is_new else a
                count += 1
            rows += 1
            skips += skip
            if is_new:
                b -= 1
            else:
                a -= 1
    return keep[:count][::-1].copy()
