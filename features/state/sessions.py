"""Sessions: a user's consecutive impressions with one session id, or with none, without a long break."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.config.slices import microseconds
from features.schemas import INSTANT
from features.state.counter_tables import Tables
from features.state.entities import Entities
from features.state.kernels import NEVER, run_sessions
from features.state.layout import Layout
from features.state.moment import MomentState
from features.state.table import Index


@dataclass
class RunningSessions:
    """Sessions of impressions as arrays, and their advance through these impressions."""

    entry: NDArray[np.int64]
    """Session of each impression."""
    at: NDArray[np.int64]
    """Instant of each impression."""
    gap: int
    """Microseconds after which a session ends."""
    last_at: NDArray[np.int64]
    values: NDArray[np.float64]
    """Per session: its start, its impressions so far, and the user's exposures and clicks at its start."""

    def advance(self, lists: slice, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """[4, impression]: `began_at, lists, exposures, clicks` of each impression's session before the impression."""
        out = np.zeros((4, counts.shape[1]))
        run_sessions(self.entry[lists], self.at[lists], counts, self.gap, self.last_at, self.values, out)
        return out


class Sessions(RunningSessions):
    """The sessions of a state."""

    def __init__(self, state: MomentState, layout: Layout, tables: Tables) -> None:
        declared, stored = state.config.features, state.sessions
        self._users, self._ids, self._index = tables.users, Entities([""]), Index(np.empty(0, np.int64))
        self._schema = stored.schema
        known = self._index.locate(self._codes(stored["user_id"], stored["session_id"]))
        lists = layout.impressions.select("user_id", "session_id")
        entry = self._index.locate(self._codes(lists["user_id"], lists["session_id"]))
        size, gap = len(self._index), min(declared.session_gap, declared.ttl) // timedelta(microseconds=1)
        super().__init__(entry, layout.at, gap, np.full(size, NEVER), np.zeros((size, 4)))
        self.last_at[known] = stored["shown_at"].to_physical().to_numpy()
        columns = [
            stored[name].to_physical().to_numpy() for name in ("began_at", "lists", "exposures", "clicks")
        ]
        self.values[known] = np.column_stack(columns)

    def table(self, until: datetime) -> pl.DataFrame:
        """`state.sessions` as of `until`: the sessions that may still continue, by user and session id."""
        live = np.flatnonzero(microseconds(until) - self.last_at <= self.gap)
        codes, values = self._index.codes[live], self.values[live]
        ids = self._ids.decode(codes & 0xFFFFFFFF)
        return pl.DataFrame(
            {
                "user_id": self._users.decode(codes >> 32),
                "session_id": ids.replace("", None).str.slice(1),
                "began_at": pl.Series(values[:, 0]).cast(pl.Int64).cast(INSTANT),
                "shown_at": pl.Series(self.last_at[live]).cast(INSTANT),
                "lists": pl.Series(values[:, 1]).cast(pl.Int64),
                "exposures": pl.Series(values[:, 2].copy()),
                "clicks": pl.Series(values[:, 3].copy()),
            },
            schema=self._schema,
        ).sort("user_id", "session_id")

    def _codes(self, users: pl.Series, ids: pl.Series) -> NDArray[np.int64]:
        # The prefix keeps a missing session id apart from the id "".
        return self._users.encode(users) << 32 | self._ids.encode(("=" + ids).fill_null(""))
