"""Each user's histories in memory: the tables stored at the slice's start, by user, and the events since.

Histories are trimmed at the start of a slice, as in batch, so that a user's moments are the same in both.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.schemas import Impressions, Interactions, Items
from features.state import MomentState, SliceEvents
from features.state.histories import SKIPPED, Skips, exposures_of, moments, remembered, still_answerable
from features.state.layout import in_order

_STORED = ("open", "shown", "sessions", "moments")
_NO_IMPRESSIONS, _NO_INTERACTIONS = Impressions.create_empty(), Interactions.create_empty()
_CACHED = 20_000
"""Users whose moments are cached as arrays."""


class Past(NamedTuple):
    """A user's moments, oldest first."""

    items: list[str]
    actions: list[str]
    at: NDArray[np.int64]
    """Microseconds."""


@dataclass(frozen=True)
class History:
    """One user's tables at the slice's start (`sessions`: now), and the user's events since."""

    open: pl.DataFrame
    shown: pl.DataFrame
    sessions: pl.DataFrame
    moments: pl.DataFrame
    impressions: pl.DataFrame
    interactions: pl.DataFrame

    @property
    def events(self) -> SliceEvents:
        """Events since the slice's start, in order."""
        return in_order(SliceEvents(Items.create_empty(), self.impressions, self.interactions))


class Histories:
    """The histories of all users. `at`: the start of the slice."""

    def __init__(self, state: MomentState) -> None:
        self.at = state.at
        self.blank = replace(
            state, items=Items.create_empty(), **{n: getattr(state, n).clear() for n in _STORED}
        )
        """The state without users."""
        self._stored = {name: _ByUser(getattr(state, name)) for name in _STORED}
        self._changed: dict[str, tuple[datetime, History]] = {}
        self._pasts: OrderedDict[str, tuple[Past, NDArray[np.int64]]] = OrderedDict()

    def of(self, user: str) -> History:
        """One user's history."""
        since, history = self._changed.get(user, (self.blank.at, None))
        if history is None:
            tables = {name: stored[user] for name, stored in self._stored.items()}
            history = History(**tables, impressions=_NO_IMPRESSIONS, interactions=_NO_INTERACTIONS)
        return history if since == self.at else self._trimmed(history, since)

    def state(self, users: Iterable[str]) -> MomentState:
        """The state of some users, `shown` and `sessions`, to run the kernels over their new events."""
        own = [self.of(user) for user in users]
        if not own:
            return self.blank
        shown = pl.concat([exposures_of(history.shown, history.impressions) for history in own])
        return replace(
            self.blank,
            shown=shown.sort("shown_at", maintain_order=True),
            sessions=pl.concat([history.sessions for history in own]),
        )

    def add(self, events: SliceEvents, sessions: pl.DataFrame) -> None:
        """Add events of this slice, and replace their users' sessions."""
        parts = (events.impressions, events.interactions, sessions)
        own = [part.partition_by("user_id", as_dict=True, maintain_order=True) for part in parts]
        for key in dict.fromkeys(key for part in own[:2] for key in part):
            user, history = str(key[0]), self.of(str(key[0]))
            grown = [
                pl.concat([old, part[key]]) if key in part else old
                for old, part in zip((history.impressions, history.interactions), own, strict=False)
            ]
            ongoing = own[2].get(key, history.sessions.clear())
            changed = replace(history, impressions=grown[0], interactions=grown[1], sessions=ongoing)
            self._changed[user] = self.at, changed
            self._pasts.pop(user, None)

    def start_slice(self, at: datetime) -> None:
        """Begin a slice. Each user's history is trimmed when it is next read."""
        self.at = at
        self._pasts.clear()

    def forget(self, user: str) -> None:
        """Empty a user's history."""
        nothing = {name: getattr(self.blank, name) for name in _STORED}
        empty = History(**nothing, impressions=_NO_IMPRESSIONS, interactions=_NO_INTERACTIONS)
        self._changed[user] = self.at, empty
        self._pasts.pop(user, None)

    def past(self, user: str, at: int) -> tuple[Past, int]:
        """A user's moments known before an impression at `at`, and how many of them are the same for any later `at`.

        Candidates of the last impression without an interaction are skips: just before `at`, or when its attribution
        window ended.
        """
        if user not in self._pasts:
            self._pasts[user] = self._moments(user)
            if len(self._pasts) > _CACHED:
                self._pasts.popitem(last=False)
        self._pasts.move_to_end(user)
        known, ends = self._pasts[user]
        settled = known.at.size - ends.size
        if not ends.size:
            return known, settled
        left = np.minimum(ends, at - 1)
        if settled and left.min() <= known.at[settled - 1]:
            times = np.concatenate([known.at[:settled], left])
            keys = zip(times.tolist(), known.items, known.actions, strict=True)
            order = [n for _, n in sorted((key, n) for n, key in enumerate(keys))]
            settled = next((n for n, row in enumerate(order) if row >= settled), settled)
            return Past(
                [known.items[n] for n in order], [known.actions[n] for n in order], times[order]
            ), settled
        return known._replace(at=np.concatenate([known.at[:settled], left])), settled

    def _moments(self, user: str) -> tuple[Past, NDArray[np.int64]]:
        """A user's moments, pending skips last, and the latest instant of each pending skip."""
        history = self.of(user)
        events = history.events
        state = replace(self.blank, at=self.at, open=history.open, moments=history.moments)
        rows = moments(state, events, self.blank.project)
        last = [
            self.at,
            *(part.max() for part in (events.impressions["shown_at"], events.interactions["known_at"])),
        ]
        now = max(instant for instant in last if isinstance(instant, datetime))
        waiting = (rows["known_at"] > now) & (rows["action"] == SKIPPED)
        rows, open_ = rows.filter(~waiting), rows.filter(waiting)
        rows = pl.concat([rows, open_])
        at = rows["known_at"].to_physical().to_numpy()
        return Past(rows["item_id"].to_list(), rows["action"].to_list(), at), at[
            at.size - open_.height :
        ].copy()

    def _trimmed(self, history: History, since: datetime) -> History:
        """The history of an earlier slice, which began at `since`, as of the start of this one."""
        events = history.events
        state = replace(self.blank, at=since, open=history.open, shown=history.shown, moments=history.moments)
        skips = Skips(state, events)
        return replace(
            history,
            open=skips.still_open(self.at),
            shown=still_answerable(state, events, self.at),
            moments=remembered(state, skips, events, self.at),
            impressions=history.impressions.clear(),
            interactions=history.interactions.clear(),
        )


class _ByUser:
    """A table, sorted and indexed by user."""

    def __init__(self, table: pl.DataFrame) -> None:
        self._table = table.sort("user_id", maintain_order=True)
        runs = self._table["user_id"].rle().struct.unnest()
        ends = runs["len"].cum_sum().to_list()
        self._rows: Mapping[str, tuple[int, int]] = {
            user: (end - size, size) for user, size, end in zip(runs["value"], runs["len"], ends, strict=True)
        }

    def __getitem__(self, user: str) -> pl.DataFrame:
        return self._table.slice(*self._rows.get(user, (0, 0)))
