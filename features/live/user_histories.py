"""Each user's histories in memory: read from the stored tables when first needed, then updated event by event.

The rules are those of `features/state/histories.py` and `features/state/layout.py`, for one user at a time. Histories
are trimmed at the start of a slice, as in batch, so that a user's moments are the same in both.
"""

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars import selectors

from features.config.slices import microseconds
from features.state import MomentState
from features.state.histories import DEEPEST, SKIPPED
from features.state.kernels import NEVER, newest
from features.state.sessions import RunningSessions

Context = tuple[tuple[str, str], ...]
"""(name, value) pairs."""
_STORED = ("open", "shown", "sessions", "moments")
_MICROSECOND = timedelta(microseconds=1)
_NEW_SESSION = (NEVER, 0.0, 0.0, 0.0, 0.0)
_CACHED = 20_000
"""Users without new events whose histories stay in memory."""


class Past(NamedTuple):
    """A user's moments, oldest first."""

    items: list[str]
    actions: list[str]
    at: NDArray[np.int64]
    """Microseconds."""


class Shown(NamedTuple):
    """An impression; instants are microseconds."""

    at: int
    id: str
    user: str
    session: str | None
    context: Context
    items: list[str]
    positions: list[int]


class Done(NamedTuple):
    """An interaction."""

    at: int
    id: str
    user: str
    item: str
    kind: str
    value: float | None


class Exposure(NamedTuple):
    """The latest showing of an item to a user."""

    at: int
    position: int
    context: Context


@dataclass(slots=True)
class _User:
    """One user's history."""

    since: int
    """Start of the slice in which it was last trimmed."""
    at: "array[int]" = field(default_factory=lambda: array("q"))
    """Instants of the moments, which are in order of (instant, item, action)."""
    items: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    open: list[tuple[int, list[str]]] = field(default_factory=list)
    """Instant of each open impression, and the items whose skip is a moment."""
    acts: list[tuple[int, str]] = field(default_factory=list)
    """Instant and item of the interactions since the oldest open impression."""
    exposures: dict[str, Exposure] = field(default_factory=dict)
    sessions: dict[str | None, tuple[int, float, float, float, float]] = field(default_factory=dict)
    """By session id: its last impression, and the values of `RunningSessions`."""

    def insert(self, at: int, item: str, action: str) -> None:
        """Add a moment."""
        n = len(self.at)
        while n and (self.at[n - 1], self.items[n - 1], self.actions[n - 1]) > (at, item, action):
            n -= 1
        self.at.insert(n, at)
        self.items.insert(n, item)
        self.actions.insert(n, action)

    def skips(self, shown_at: int, items: list[str], end: int) -> list[str]:
        """Items of an impression that closes at `end` which the user did not act on before."""
        acted = {item for at, item in self.acts if shown_at <= at <= end}
        return [item for item in items if item not in acted]

    def close(self, now: int, window: int, *, shown: bool) -> None:
        """Turn the skips that closed before `now` into moments. `shown`: an impression at `now` closes earlier ones."""
        still = []
        for at, items in self.open:
            end = min(at + window, now - 1) if shown and at < now else at + window
            if end >= now:
                still.append((at, items))
            else:
                for item in self.skips(at, items, end):
                    self.insert(end, item, SKIPPED)
        self.open = still
        oldest = min((at for at, _ in still), default=now)
        if self.acts and self.acts[0][0] < oldest:
            self.acts = [act for act in self.acts if act[0] >= oldest]


class Histories:
    """The histories of all users. `at`: the start of the slice."""

    def __init__(self, state: MomentState) -> None:
        features, labels = state.config.features, state.config.labels
        self.at = self._stored_at = microseconds(state.at)
        self._features, self._kinds = features, frozenset(labels.gains)
        self._window = labels.attribution // _MICROSECOND
        self._ttl = features.ttl // _MICROSECOND
        self._gap = min(features.session_gap, features.ttl) // _MICROSECOND
        self._stored = {name: _ByUser(getattr(state, name)) for name in _STORED}
        self._changed: dict[str, _User] = {}
        self._read: dict[str, _User] = {}
        self._texts: dict[str, str] = {}

    def show(self, impression: Shown) -> None:
        """Add an impression."""
        user = self._to_change(impression.user)
        user.close(impression.at, self._window, shown=True)
        most = self._features.skips_per_impression
        items = [self._text(item) for item in impression.items]
        pairs = list(zip(items, impression.positions, strict=True))
        user.open.append((impression.at, [item for item, position in pairs if position <= most]))
        for item, position in pairs:
            user.exposures[item] = Exposure(impression.at, min(position, DEEPEST), impression.context)

    def act(self, interaction: Done) -> Exposure | None:
        """Add an interaction; return the exposure that it is attributed to."""
        user = self._to_change(interaction.user)
        user.close(interaction.at, self._window, shown=False)
        item = self._text(interaction.item)
        user.acts.append((interaction.at, item))
        if interaction.kind in self._kinds:
            user.insert(interaction.at, item, self._text(interaction.kind))
        exposure = user.exposures.get(item)
        within = exposure is not None and interaction.at - exposure.at <= self._window
        return exposure if within else None

    def sessions(self, lists: list[tuple[str, str | None]], at: NDArray[np.int64]) -> RunningSessions:
        """The sessions of impressions (user, session id) shown at these instants."""
        keys = {key: n for n, key in enumerate(dict.fromkeys(lists))}
        stored = [self._of(user).sessions.get(session, _NEW_SESSION) for user, session in keys]
        entry = np.array([keys[key] for key in lists], np.int64)
        last_at = np.array([last for last, *_ in stored], np.int64)
        values = np.array([values for _, *values in stored]).reshape(-1, 4)
        return RunningSessions(entry, at, self._gap, last_at, values)

    def set_sessions(self, lists: list[tuple[str, str | None]], sessions: RunningSessions) -> None:
        """Keep what `sessions` became."""
        rows = zip(dict.fromkeys(lists), sessions.last_at.tolist(), sessions.values.tolist(), strict=True)
        for (user, session), last, (began, count, exposures, clicks) in rows:
            self._to_change(user).sessions[session] = (last, began, count, exposures, clicks)

    def start_slice(self, at: int) -> None:
        """Begin a slice. Each user's history is trimmed when it is next read."""
        self.at = at

    def forget(self, user: str) -> None:
        """Empty a user's history."""
        self._changed[user] = _User(self.at)
        self._read.pop(user, None)

    def past(self, user: str, at: int) -> tuple[Past, int]:
        """A user's moments known before an impression at `at`, and how many of them are the same for any later `at`.

        Candidates of the last impression without an interaction are skips: just before `at`, or when its attribution
        window ended.
        """
        own = self._of(user)
        past = Past(own.items.copy(), own.actions.copy(), np.array(own.at, np.int64))
        settled = len(own.items)
        closing = [(at_, items, min(at_ + self._window, at - 1)) for at_, items in own.open]
        rows = sorted((end, item) for at_, items, end in closing for item in own.skips(at_, items, end))
        if not rows:
            return past, settled
        moments = [
            *zip(past.at.tolist(), past.items, past.actions, strict=True),
            *((*row, SKIPPED) for row in rows),
        ]
        if settled and rows[0][0] <= past.at[-1]:
            first = moments[settled]
            moments.sort()
            settled = moments.index(first)
        times, names, actions = (list(column) for column in zip(*moments, strict=True))
        return Past(names, actions, np.array(times, np.int64)), settled

    def _to_change(self, name: str) -> _User:
        user = self._of(name)
        self._changed[name] = user
        self._read.pop(name, None)
        return user

    def _of(self, name: str) -> _User:
        """One user's history, trimmed at the start of the slice."""
        user = self._changed.get(name) or self._read.get(name)
        if user is None:
            user = self._read[name] = self._load(name)
            if len(self._read) > _CACHED:
                del self._read[next(iter(self._read))]
        if user.since != self.at:
            self._trim(user)
        return user

    def _load(self, name: str) -> _User:
        """One user's history as stored."""
        user, text = _User(self._stored_at), self._text
        opened: dict[str, tuple[int, list[str]]] = {}
        for impression, _, item, _, at in self._stored["open"][name]:
            opened.setdefault(impression, (at, []))[1].append(text(item))
        user.open = list(opened.values())
        for _, item, position, context, at in self._stored["shown"][name]:
            pairs = tuple((pair["name"], pair["value"]) for pair in context)
            user.exposures[text(item)] = Exposure(at, position, pairs)
        for _, session, began, last, lists, exposures, clicks in self._stored["sessions"][name]:
            user.sessions[session] = (last, began, lists, exposures, clicks)
        for _, item, action, at in self._stored["moments"][name]:
            user.at.append(at)
            user.items.append(text(item))
            user.actions.append(text(action))
        return user

    def _trim(self, user: _User) -> None:
        user.close(self.at, self._window, shown=False)
        first = bisect_left(user.at, self.at - self._ttl)
        skips = np.array([action == SKIPPED for action in user.actions[first:]], bool)
        most, of_kind = self._features.max_history, self._features.text_history
        none = np.zeros(0, np.int64)
        kept = newest(none, np.zeros(skips.size, np.int64), none.astype(bool), skips, most, of_kind) + first
        if kept.size < len(user.items):
            user.at = array("q", [user.at[n] for n in kept])
            user.items, user.actions = ([texts[n] for n in kept] for texts in (user.items, user.actions))
        since = self.at - self._window
        user.exposures = {item: shown for item, shown in user.exposures.items() if shown.at >= since}
        user.sessions = {
            session: values for session, values in user.sessions.items() if self.at - values[0] <= self._gap
        }
        user.since = self.at

    def _text(self, text: str) -> str:
        """The same object for the same text: moments share the ids of items."""
        return self._texts.setdefault(text, text)


class _ByUser:
    """The rows of a table by user, in order; instants are microseconds."""

    def __init__(self, table: pl.DataFrame) -> None:
        self._table = table.sort("user_id", maintain_order=True).with_columns(
            selectors.datetime().to_physical()
        )
        runs = self._table["user_id"].rle().struct.unnest()
        self._users, self._ends = runs["value"], runs["len"].cum_sum()

    def __getitem__(self, user: str) -> list[tuple[Any, ...]]:
        n = self._users.search_sorted(user)
        if n == len(self._users) or self._users[n] != user:
            return []
        first = self._ends[n - 1] if n else 0
        return self._table[first : self._ends[n]].rows()
