"""The state in memory: the newest stored state, updated by all later events of the lake and the journal."""

import threading
from collections.abc import Iterable

import polars as pl

from features.config.sections import ReaderConfig
from features.errors import TableError
from features.events.pseudonyms import Forgotten
from features.live import Answer, LiveMoments, Request
from features.schemas import Impressions, Interactions, Items, ItemVectors
from features.sources.jsonl_events import read_lines
from features.sources.raw import Hide
from features.state import SliceEvents
from features.state.histories import SKIPPED
from models.interest_input import item_vectors
from pipelines.deployment import Deployment
from pipelines.lake import STATE
from pipelines.service.champion import Champion
from pipelines.service.events import Known
from pipelines.service.pool import Pool

_TIMES = {"items": "known_at", "impressions": "shown_at", "interactions": "known_at"}
_IDS = {"impressions": ("ranking", "impression_id"), "interactions": ("interaction", "interaction_id")}


class Resident:
    """A deployment's state in memory. Hold `lock` to read or change it."""

    def __init__(self, deployment: Deployment, known: Known, until: str | None = None) -> None:
        """Load the state after the newest slice, or after `until`. Raises TableError if there is none."""
        self.deployment, self.project, self.known = deployment, deployment.project, known
        self.lock = threading.Lock()
        kept = [key for key in deployment.lake.slices(f"{STATE}/items") if until is None or key <= until]
        if not kept:
            raise TableError(
                f"there is no moment state to serve from: run `momentrank run {deployment.settings.project}` first"
            )
        self.slice = kept[-1]
        state = deployment.slices.state_after(self.slice)
        clicks = state.moments.filter(pl.col("action") != SKIPPED)
        self._clicks = clicks.select("user_id", "item_id").unique()
        self.users = clicks["user_id"].value_counts(sort=True)["user_id"].head(50).to_list()
        """Users with the most clicks, for the page."""
        self.live = LiveMoments(state, self.project.slices, deployment.slices.vectors(self.slice))
        self.since = self.live.at
        self.pool = Pool(self.live, self.project)
        self.champion: Champion | None = None
        self._forgotten = Forgotten(deployment.privacy.marks())
        self._note_ids([self.slice])
        if until is None:
            later = [key for key in deployment.lake.slices("impressions") if key > self.slice]
            for key in later:
                self._update(deployment.slices.events(key))
            self._note_ids(later)

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
                    first = pl.Series([self.known.first(kind, one) for one in rows[key]], dtype=pl.Boolean)
                    rows = rows.filter(first)
                new[name] = rows.filter(pl.col(column).dt.timestamp("us") >= self.since)
            self._note_shown(events.impressions)
            self._update(SliceEvents(**new))
            count += sum(table.height for table in new.values())
        return count

    def apply(self, lines: bytes) -> None:
        """Apply new lines of the journal."""
        self._update(self._decode(lines))

    def look_up(self, request: Request) -> Answer:
        """Look up a request; the caller holds the lock."""
        return self.live.look_up(request)

    def clicked_together(self, item: str, count: int) -> list[tuple[str, int]]:
        """Items clicked by the users who clicked `item`, with their number, as of the stored state."""
        users = self._clicks.filter(item_id=item).select("user_id")
        others = self._clicks.join(users, on="user_id", how="semi").filter(pl.col("item_id") != item)
        found = others["item_id"].value_counts().sort("count", "item_id", descending=[True, False])
        return [(str(name), int(n)) for name, n in found.head(count).iter_rows()]

    def _decode(self, lines: bytes) -> SliceEvents:
        return decode(lines, self.project.reader, self.deployment.privacy.hide, self._forgotten)

    def _update(self, events: SliceEvents) -> None:
        items = events.items
        vectors: pl.DataFrame = ItemVectors.create_empty()
        if items.height:
            vectors = item_vectors(items, self.project.interest, self.deployment.settings.cache)
        with self.lock:
            self.live.update(events, vectors)
            if self.champion is not None:
                self.champion.models.describe(self.live.described.found)

    def _note_ids(self, slices: list[str]) -> None:
        """Add the ids and impressions of stored slices to `known`."""
        lake = self.deployment.lake
        for name, (kind, column) in _IDS.items():
            kept = [key for key in slices if lake.has(name, key)]
            if not kept:
                continue
            rows = lake.read(name, kept)
            for one in rows[column]:
                self.known.first(kind, one)
            if name == "impressions":
                self._note_shown(rows)

    def _note_shown(self, impressions: pl.DataFrame) -> None:
        if self.deployment.privacy.pseudonyms:
            return  # callers send plain ids, which cannot be compared with pseudonyms
        rows = impressions.select(
            "impression_id",
            "user_id",
            pl.col("candidates").list.eval(pl.element().struct.field("item_id")),
            pl.col("shown_at").dt.timestamp("us"),
        )
        for name, user, items, at in rows.iter_rows():
            self.known.show(name, user, frozenset(items), at)


def decode(lines: bytes, config: ReaderConfig, hide: Hide, forgotten: Forgotten) -> SliceEvents:
    """The events in lines of the journal, with user ids as stored and without forgotten users."""
    raw = forgotten.drop(read_lines(config, lines, "journal", hide))
    return SliceEvents(
        raw.items.filter(pl.col("title").is_not_null()).select(Items.column_names()),
        raw.impressions.select(Impressions.column_names()),
        raw.interactions.select(Interactions.column_names()),
    )
