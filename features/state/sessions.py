"""Sessions: runs of a user's lists under one session id, or under none, without a long break."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.config.slices import microseconds
from features.state.entities import Entities
from features.state.kernels import NEVER, run_sessions
from features.state.layout import Layout
from features.state.moment import MomentState
from features.state.table import Index
from features.state.tables import Tables

_INSTANT = pl.Datetime("us", "UTC")


class Sessions:
    """Runs of a user's lists under one session id, or under none, without a long break."""

    def __init__(self, state: MomentState, layout: Layout, tables: Tables) -> None:
        declared, stored = state.project.features, state.sessions
        self._users, self._ids, self._index = tables.users, Entities([""]), Index(np.empty(0, np.int64))
        self._gap = min(declared.session_gap, declared.ttl) // timedelta(microseconds=1)
        self._at, self._empty = layout.at, stored.clear()
        known = self._index.locate(self._codes(stored["user_id"], stored["session_id"]))
        lists = layout.impressions.select("user_id", "session_id")
        self._entry = self._index.locate(self._codes(lists["user_id"], lists["session_id"]))
        self._last_at = np.full(len(self._index), NEVER)
        self._held = np.zeros((len(self._index), 4))
        """When a session began, its lists, and the user's exposures and clicks at its start."""
        self._last_at[known] = stored["shown_at"].to_physical().to_numpy()
        columns = [
            stored[name].to_physical().to_numpy() for name in ("began_at", "lists", "exposures", "clicks")
        ]
        self._held[known] = np.column_stack(columns)

    def go_on(self, lists: slice, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """`began_at, lists, exposures, clicks` of the session of each list, as of just before the list."""
        out = np.zeros((4, counts.shape[1]))
        run_sessions(self._entry[lists], self._at[lists], counts, self._gap, self._last_at, self._held, out)
        return out

    def table(self, until: datetime) -> pl.DataFrame:
        """What `state.sessions` is at `until`: the sessions that may still go on, by user and id."""
        kept = np.flatnonzero(microseconds(until) - self._last_at <= self._gap)
        codes, held = self._index.codes[kept], self._held[kept]
        names = self._ids.decode(codes & 0xFFFFFFFF)
        return pl.DataFrame(
            {
                "user_id": self._users.decode(codes >> 32),
                "session_id": names.replace("", None).str.slice(1),
                "began_at": pl.Series(held[:, 0]).cast(pl.Int64).cast(_INSTANT),
                "shown_at": pl.Series(self._last_at[kept]).cast(_INSTANT),
                "lists": pl.Series(held[:, 1]).cast(pl.Int64),
                "exposures": pl.Series(held[:, 2].copy()),
                "clicks": pl.Series(held[:, 3].copy()),
            },
            schema=self._empty.schema,
        ).sort("user_id", "session_id")

    def _codes(self, users: pl.Series, ids: pl.Series) -> NDArray[np.int64]:
        # A list without a session id is not one of a session called "".
        return self._users.encode(users) << 32 | self._ids.encode(("=" + ids).fill_null(""))
