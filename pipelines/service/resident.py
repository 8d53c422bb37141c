"""The state in memory: the newest stored state, updated by all later events of the lake and the journal."""

import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from features.config.project import Project
from features.config.sections import ReaderConfig
from features.events.pseudonyms import Forgotten
from features.live import Done, LiveMoments, Shown
from features.queries import query_of
from features.schemas import Impressions, Interactions, Items, ItemVectors
from features.sources.jsonl_events import read_lines
from features.sources.raw import Hide
from features.state import MomentState, SliceEvents
from features.state.histories import SKIPPED
from models.interest_input import item_vectors, query_rows
from pipelines.identities import Privacy
from pipelines.service.champion_follower import Champion
from pipelines.service.event_intake import Known, Stamped
from pipelines.service.pool import Pool
from pipelines.service.wire import ItemEvent, RankingEvent

_TIMES = {"items": "known_at", "impressions": "shown_at", "interactions": "known_at"}
_IDS = {"impressions": ("ranking", "impression_id"), "interactions": ("interaction", "interaction_id")}
_VERSION = ("item_id", "known_at")
_NO_EVENTS = SliceEvents(Items.create_empty(), Impressions.create_empty(), Interactions.create_empty())


class Resident:
    """A state in memory. Hold `lock` to read or change it: for a look-up, or for the update by events on disk."""

    def __init__(
        self, state: MomentState, vectors: pl.DataFrame, project: Project, privacy: Privacy, known: Known, cache: Path
    ) -> None:  # fmt: skip
        """`vectors`: `schemas.ItemVectors` of the state's items. `cache`: folder of text vectors."""
        self.project, self._privacy, self._known, self._cache = project, privacy, known, cache
        self.lock = threading.Lock()
        clicks = state.moments.filter(pl.col("action") != SKIPPED)
        self._clicks = clicks.select("user_id", "item_id").unique()
        self.users = clicks["user_id"].value_counts(sort=True)["user_id"].head(50).to_list()
        """Users with the most clicks, for the page."""
        self.live = LiveMoments(state, project.slices, vectors)
        self._since = self.live.at
        self.pool = Pool(self.live, project.lists.pool)
        self.champion: Champion | None = None
        self._forgotten = Forgotten(privacy.marks())
        for user in self._forgotten.among(self.live.users()):
            self._drop(user)

    def add_slice(self, events: SliceEvents) -> None:
        """Apply the events of a later slice of the lake."""
        self._update(events)

    def replay(self, blocks: Iterable[bytes]) -> int:
        """Apply the journal's events that the stored state lacks; return their number."""
        count = 0
        for block in blocks:
            events = self._decode(block)
            new = {}
            for name, column in _TIMES.items():
                rows = getattr(events, name)
                if name in _IDS:
                    kind, key = _IDS[name]
                    first = pl.Series([self._known.first(kind, one) for one in rows[key]], dtype=pl.Boolean)
                    rows = rows.filter(first)
                new[name] = rows.filter(pl.col(column).dt.timestamp("us") >= self._since)
            self._note_shown(events.impressions)
            self._update(SliceEvents(**new))
            count += sum(table.height for table in new.values())
        return count

    def apply(self, accepted: Sequence[Stamped]) -> None:
        """Apply events that were accepted."""
        rows = [row_of(one, self._privacy) for one in accepted]
        lines = [one.line() for one, row in zip(accepted, rows, strict=True) if row is None]
        events = self._decode("\n".join(lines).encode()) if lines else _NO_EVENTS
        self._update(events, [row for row in rows if row is not None])

    def clicked_together(self, item: str, count: int) -> list[tuple[str, int]]:
        """Items clicked by the users who clicked `item`, with their number, as of the stored state; needs no lock."""
        clicks = self._clicks
        users = clicks.filter(item_id=item).select("user_id")
        others = clicks.join(users, on="user_id", how="semi").filter(pl.col("item_id") != item)
        counts = others["item_id"].value_counts().sort("count", "item_id", descending=[True, False])
        return [(str(name), int(n)) for name, n in counts.head(count).iter_rows()]

    def is_forgotten(self, user: str) -> bool:
        """Whether a user (id as sent) was forgotten."""
        return bool(self._forgotten.marks) and bool(self._forgotten.among([self._privacy.stored(user)]))

    def forget(self, user: str) -> None:
        """Leave a user (id as sent) out of new slices and of restarts, as `momentrank forget` does, and of memory."""
        stored = self._privacy.stored(user)
        self._privacy.mark_forgotten(stored, {"ranker": (), "interest": ()})
        self._forgotten = Forgotten(self._privacy.marks())
        with self.lock:
            self._drop(stored)

    def _drop(self, stored: str) -> None:
        self.live.forget(stored)
        self._clicks = self._clicks.filter(pl.col("user_id") != stored)
        self.users = [user for user in self.users if user != stored]

    def _decode(self, lines: bytes) -> SliceEvents:
        return decode(lines, self.project.reader, self._privacy.hide, self._forgotten)

    def _update(self, events: SliceEvents, rows: Sequence[Shown | Done] = ()) -> None:
        # Encoding the text of a new item is slow, so it needs no lock.
        items, champion = events.items, self.champion
        vectors: pl.DataFrame = ItemVectors.create_empty()
        embedded = None
        if items.height:
            items = items.unique(_VERSION, keep="first", maintain_order=True)
            items = items.join(self.live.described.found, on=_VERSION, how="anti", maintain_order="left")
            events = replace(events, items=items)
        if items.height:
            vectors = item_vectors(items, self.project.interest, self._cache)
            embedded = champion.models.embed(items) if champion else None
        if self.live.queries is not None and events.impressions.height:
            texts = query_of(events.impressions, self.project.context).drop_nulls().unique()
            vectors = pl.concat([vectors, query_rows(texts, self.project.interest)])
        with self.lock:
            self.live.update(events, vectors, rows)
            if self._forgotten.marks:
                # A user may have been forgotten while their events waited.
                users = {*events.impressions["user_id"], *events.interactions["user_id"]}
                for user in self._forgotten.among(users | {row.user for row in rows}):
                    self._drop(user)
            if items.height and self.champion is not champion:
                embedded = self.champion.models.embed(items) if self.champion else None
            if self.champion is not None:
                self.champion.models.describe(self.live.described.found, items, embedded)

    def note_ids(self, impressions: pl.DataFrame | None, interactions: pl.DataFrame | None) -> None:
        """Add the ids and impressions of stored slices to the known ones."""
        for (kind, column), rows in zip(_IDS.values(), (impressions, interactions), strict=True):
            for one in () if rows is None else rows[column]:
                self._known.first(kind, one)
        if impressions is not None:
            self._note_shown(impressions)

    def _note_shown(self, impressions: pl.DataFrame) -> None:
        if self._privacy.pseudonyms:
            return  # callers send plain ids, which cannot be compared with pseudonyms
        rows = impressions.select(
            "impression_id",
            "user_id",
            pl.col("candidates").list.eval(pl.element().struct.field("item_id")),
            pl.col("shown_at").dt.timestamp("us"),
        )
        for name, user, items, at in rows.iter_rows():
            self._known.show(name, user, frozenset(items), at)


def row_of(stamped: Stamped, privacy: Privacy) -> Shown | Done | None:
    """An event without `fields` as its line would be read; None for one with fields."""
    event, at = stamped.event, stamped.at
    if isinstance(event, ItemEvent) or event.fields:
        return None
    user = privacy.stored(event.user)
    if isinstance(event, RankingEvent):
        items = [item.id for item in event.items]
        return Shown(at, stamped.id, user, event.session, (), items, list(range(1, len(items) + 1)))
    value = event.value if event.value is not None and math.isfinite(event.value) else None
    return Done(at, stamped.id, user, event.item, event.type, value)


def decode(lines: bytes, config: ReaderConfig, hide: Hide, forgotten: Forgotten) -> SliceEvents:
    """The events in lines of the journal, with user ids as stored and without forgotten users."""
    raw = forgotten.drop(read_lines(config, lines, "journal", hide))
    return SliceEvents(
        raw.items.filter(pl.col("title").is_not_null()).select(Items.column_names()),
        raw.impressions.select(Impressions.column_names()),
        raw.interactions.select(Interactions.column_names()),
    )
