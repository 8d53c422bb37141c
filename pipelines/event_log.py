"""The event log: every file of a project's logs, parsed once, when it is first met.

    event_log/<settings>/items, impressions, interactions, rejects   rows as evaluated, by slice
    event_log/<settings>/files                                       a row a file: its hash, its rows, its slices

A file is parsed in chunks, which are written and seen by nobody until the file's row is in `files`: whoever is killed
before leaves rows that no reader counts, and the file is parsed anew. Logs parsed under other settings (of the source,
items, context or slices) are another log: a change of these parses all files again.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from uuid import uuid4

import polars as pl

from features import schemas
from features.config.project import Project
from features.config.slices import Slices
from features.errors import SourceError
from features.events.log_problems import Read
from features.events.validation import Events, Known, build, known_items, last_times, lists_shown, touched
from features.sources import LogFile, Past, chunks, log_files, require_rows
from features.sources.files import count_lines, is_plain_text
from features.sources.raw import INSTANT, SCHEMAS, RawEvents
from features.sources.simulation import newsroom
from pipelines.file_lock import file_lock
from pipelines.identities import Privacy
from pipelines.lake import Lake, Part

ROOT = "event_log"
TABLES = {
    "items": (schemas.Items, ("known_at", "item_id")),
    "impressions": (schemas.Impressions, ("shown_at", "impression_id")),
    "interactions": (schemas.Interactions, ("known_at", "interaction_id")),
    "rejects": (schemas.Rejects, ("slice", "source", "line", "reason", "raw")),
}
"""Table → its schema, and the order of its rows."""
_FORMAT = 1
"""Counts up when readers make other rows of the same file."""
_ALL = "all"
"""The one slice of `files`."""
_ATTEMPT = "attempt"
"""Column of every table: which attempt at a file a row is of."""


@dataclass(frozen=True)
class Record:
    """A file that was parsed, or refused with a reason."""

    number: int
    path: str
    size: int
    stamp: str
    """Instant or tag of the last change: with the same one, and the same size, the file is not opened again."""
    sha256: str
    attempt: str = ""
    rows: int = 0
    rejected: int = 0
    read: Read = field(default_factory=Read)
    slices: tuple[str, ...] = ()
    """Those that kept events belong to."""
    parsed_at: datetime | None = None
    refused: str = ""


_RECORDS = pl.Schema(
    {
        **dict.fromkeys(("path", "stamp", "sha256", "attempt", "refused"), pl.String()),
        **dict.fromkeys(("number", "size", "rows", "rejected"), pl.Int64()),
        "read": pl.Struct(
            {
                **dict.fromkeys(("interactions", "impressions", "outside"), pl.Int64),
                **dict.fromkeys(("first_at", "last_at"), INSTANT),
            }
        ),
        "parsed_at": INSTANT,
        "slices": pl.List(pl.String),
    }
)


class _UnreadableError(Exception):
    """Wraps what a file raised while it was parsed: it is the file's fault, not the lake's."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class EventLog:
    """The event log of one project in its lake. One process of a machine writes to it at a time."""

    lake: Lake
    project: Project
    privacy: Privacy
    lock: Path
    tell: Callable[[str], None] = field(default=lambda line: None)
    _known: dict[int, list[Record]] = field(default_factory=dict, repr=False, compare=False)
    """Version of the table `files` → its records."""

    @cached_property
    def root(self) -> str:
        """Name of the log's tables, up to their own."""
        project, source = self.project, self.project.source
        said: dict[str, object] = {
            "format": _FORMAT,
            "source": source.model_dump(mode="json", exclude={"path", "landing", "late", "chunk_rows"}),
            "items": project.items.model_dump(mode="json"),
            "context": project.context.model_dump(mode="json"),
            "slices": project.slices.model_dump(mode="json"),
            "pseudonyms": self.privacy.pseudonyms and self.privacy.pseudonyms.fingerprint,
        }
        if source.format == "newsroom":
            said["world"] = newsroom.marker(project)
        if self._draws_lists:
            said["seed"] = project.seed
        return f"{ROOT}/{hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]}"

    @property
    def _draws_lists(self) -> bool:
        tables = self.project.source.tables
        return tables is not None and tables.shape == "interactions"

    def records(self) -> list[Record]:
        """Every file that was parsed or refused, in order."""
        name = f"{self.root}/files"
        if not self.lake.slices(name):
            return []
        version = self.lake.version(name)
        if version not in self._known:
            self._known.clear()
            self._known[version] = [*self._records(name)]
        return [*self._known[version]]

    def _records(self, name: str) -> Iterator[Record]:
        for row in self.lake.read(name, [_ALL]).drop("slice").sort("number").to_dicts():
            yield Record(**{**row, "slices": tuple(row["slices"]), "read": Read(**row["read"])})

    def slices(self, *tables: str) -> list[str]:
        """Slices that have rows, in order; of all tables where none is named."""
        return sorted({key for table in tables or TABLES for key in self.lake.slices(f"{self.root}/{table}")})

    def events(self, slices: Iterable[str] | None = None) -> Events:
        """What the log has of some slices, all by default."""
        wanted = None if slices is None else [*slices]
        return Events(**{table: self.read(table, wanted) for table in TABLES})

    def read(self, table: str, slices: Iterable[str] | None = None) -> pl.DataFrame:
        """A table of `Events`, of some slices: rows in order, without those of attempts that were cut short."""
        schema, order = TABLES[table]
        name = f"{self.root}/{table}"
        wanted = None if slices is None else {*slices}
        keys = [key for key in self.lake.slices(name) if wanted is None or key in wanted]
        if not keys:
            return schema.create_empty().with_columns(slice=pl.lit(""))
        attempts = [record.attempt for record in self.records()]
        return self.lake.read(name, keys).filter(pl.col(_ATTEMPT).is_in(attempts)).drop(_ATTEMPT).sort(order)

    def walk(self, slices: Sequence[str]) -> Iterator[tuple[str, Events, pl.DataFrame]]:
        """Each slice with its events, and the interactions from its start on that may count for its lists.

        Slices are in order. An interaction is read once and kept as long as a slice may need it.
        """
        ahead: dict[str, pl.DataFrame] = {}
        stored = self.slices("interactions")
        for slice in slices:
            begin, end = self.project.slices.window(slice)
            wanted = [key for key in stored if key >= slice and self._is_near(key, begin, end)]
            missing = [key for key in wanted if key not in ahead]
            found = self.read("interactions", missing).partition_by("slice", as_dict=True) if missing else {}
            ahead = {
                key: ahead[key] if key in ahead else found[(key,)]
                for key in wanted
                if (key,) in found or key in ahead
            }
            here = {table: self.read(table, [slice]) for table in TABLES if table != "interactions"}
            nothing = schemas.Interactions.create_empty().with_columns(slice=pl.lit(""))
            yield (
                slice,
                Events(**here, interactions=ahead.get(slice, nothing)),
                pl.concat([nothing, *ahead.values()]),
            )

    def before(self, slice: str) -> tuple[list[str], list[str]]:
        """Slices before a slice whose lists it may touch late, and those from it on that may touch them."""
        begin, _ = self.project.slices.window(slice)
        around = [
            key for key in self.slices("impressions", "interactions") if self._is_near(key, begin, begin)
        ]
        return [key for key in around if key < slice], [key for key in around if key >= slice]

    def _is_near(self, key: str, begin: datetime, end: datetime) -> bool:
        since, until = self.project.slices.window(key)
        return until > begin - self.reach and since < end + self.reach

    @property
    def reach(self) -> timedelta:
        """How long after a list was shown something may still become known that counts for it."""
        source = self.project.source
        return source.allowed_lateness + source.known_after + self.project.labels.attribution

    def take_in(self, paths: Sequence[Path]) -> list[Record]:
        """Parse the files that are new. Raises SourceError for one that changed, and what readers raise."""
        with file_lock(self.lock):
            known = {(record.path, record.size, record.stamp) for record in self.records()}
            found = []
            for file in log_files(self.project, paths):
                place, size, stamp = _name(file), *_state(file)
                if (place, size, stamp) in known:
                    continue
                try:
                    found.append(self._take(file, place, size, stamp))
                except _UnreadableError as error:
                    raise error.error from None
        return [record for record in found if record]

    def arrive(self, name: str, path: Path, place: str, size: int, stamp: str) -> Record:
        """Parse a file that arrived, or record why it is refused. `place`: where it lies, if `path` is a copy."""
        with file_lock(self.lock):
            try:
                *items, file = self._files(path)
                for table in items:
                    self._take(table, _name(table), *_state(table))
                found = self._take(replace(file, files=((name, path),)), place, size, stamp, whole=True)
            except _UnreadableError as error:
                found = self._refuse(path, place, size, stamp, error.error)
            if found is None:
                return next(record for record in reversed(self.records()) if record.path == place)
        return found

    def _files(self, path: Path) -> list[LogFile]:
        try:
            return log_files(self.project, [path])
        except SourceError as error:
            raise _UnreadableError(error) from error

    def _refuse(self, path: Path, place: str, size: int, stamp: str, error: BaseException) -> Record:
        said = str(error) if isinstance(error, SourceError) else f"{type(error).__name__}: {error}"
        records = self.records()
        record = Record(_next(records), place, size, stamp, _digest([path]), refused=said)
        self._save([*records, record])
        return record

    def _take(
        self, file: LogFile, place: str, size: int, stamp: str, *, whole: bool = False
    ) -> Record | None:
        """Parse a file unless it was parsed before. `whole`: one that breaks off or has no row is unreadable."""
        records, read = self.records(), {*self.lake.slices("candidates")}
        before = next((record for record in reversed(records) if record.path == place), None)
        if before and (before.size, before.stamp) == (size, stamp):
            return None
        digest = _digest([path for _, path in file.files])
        new = Record(_next(records), place, size, stamp, digest, parsed_at=datetime.now(UTC))
        same = next((record for record in records if record.sha256 == digest and not record.refused), None)
        if same:
            if same is before:
                self._save([replace(same, stamp=stamp) if record is same else record for record in records])
                return None
            self.tell(f"{file.source} has the same content as {same.path}, which was parsed before")
            self._save([*records, new])
            return None
        earlier = [record for record in records if record.path == place and record.attempt]
        if earlier:
            grown = _grown(file, earlier[-1], size)
            if grown is None and any({*record.slices} & read for record in earlier):
                raise _UnreadableError(self._changed(file, earlier[-1]))
            file, records = (
                grown or file,
                records if grown else [one for one in records if one not in earlier],
            )
        record = self._parse(file, new, whole)
        self._save([*records, record])
        return record

    def _changed(self, file: LogFile, before: Record) -> SourceError:
        return SourceError(
            f"{file.path} changed since it was parsed at {before.parsed_at:%Y-%m-%d %H:%M}, and runs have read it: put "
            "it back and write what is new to another file (lines may be added to a plain .jsonl); or remove "
            f"{self.lake.location(self.root)} and run all slices again, and every file is parsed again"
        )

    def _parse(self, file: LogFile, new: Record, whole: bool) -> Record:
        """Write a file's rows; `files` does not name them yet."""
        self.privacy.settle()
        record = replace(new, attempt=uuid4().hex[:16])
        drafted: dict[str, list[Part]] = {table: [] for table in TABLES}
        for raw, events in self._evaluated(file, whole):
            record = _count(record, raw, events, self.project.slices)
            for table, parts in drafted.items():
                rows = getattr(events, table).with_columns(pl.lit(record.attempt).alias(_ATTEMPT))
                for (slice,), part in rows.partition_by("slice", as_dict=True, include_key=False).items():
                    parts.append(self.lake.draft(f"{self.root}/{table}", slice, part))
        for table, parts in drafted.items():
            self.lake.add(f"{self.root}/{table}", parts)
        return record

    def _evaluated(self, file: LogFile, whole: bool) -> Iterator[tuple[RawEvents, Events]]:
        """A file's chunks, as read and as evaluated. Whatever it raises, a panic of polars too, is `_UnreadableError`."""
        now, rows = datetime.now(UTC), 0
        rejects = [SCHEMAS["rejects"].to_frame().drop("at")]
        near = _Near(self)
        try:
            for read in chunks(self.project, file, self.privacy.hide, self._past()):
                raw = self.privacy.clean(read)
                known = near.known(raw, now)
                events = build(raw, self.project, now, known)
                near.add(raw, events, now)
                rows += raw.height
                rejects.append(events.rejects.drop("slice"))
                if whole and "truncated_gzip" in events.rejects["reason"]:
                    raise SourceError(f"{file.path.name} is a gz that breaks off: send it again, whole")
                yield raw, events
            if whole:
                require_rows(rows, pl.concat(rejects), self.project)
        except (Exception, pl.exceptions.PanicException) as error:
            raise _UnreadableError(error) from error

    def _past(self) -> Past | None:
        """What lists are drawn from: the whole log, where it holds interactions alone."""
        if not self._draws_lists:
            return None
        found = self.events()
        rows = found.interactions.select("item_id", "happened_at", "known_at", key="impression_id")
        return Past(
            rows.select("key", item="item_id", at="happened_at", known="known_at"), known_items(found.items)
        )

    def require_rows(self) -> None:
        """Raise SourceError where not one row of any file could be read."""
        records = self.records()
        if sum(record.rows for record in records) == sum(record.rejected for record in records):
            rejects = self.events().rejects
            require_rows(rejects.height, rejects, self.project)

    def _save(self, records: Sequence[Record]) -> None:
        rows = pl.DataFrame([{**vars(one), "read": vars(one.read)} for one in records], schema=_RECORDS)
        self.lake.write(f"{self.root}/files", _ALL, rows)


class _Near:
    """Ids in the slices around a file's rows: a repeated id is noticed within `EventLog.reach` of a row's slice."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._attempts = [record.attempt for record in log.records()]
        self._stored: Mapping[str, list[str]] = {
            table: log.lake.slices(f"{log.root}/{table}") for table in TABLES
        }
        self._ids: dict[str, dict[str, pl.DataFrame]] = {table: {} for table in _IDS}
        self._last = Known().last

    def known(self, raw: RawEvents, now: datetime) -> Known:
        """What was known before a chunk; what is far from it is dropped."""
        slices = self._log.project.slices
        bounds = _merged([slices.window(key) for key in touched(raw, slices, now)], self._log.reach)
        found = {}
        for table, (columns, ids_of) in _IDS.items():
            kept = self._ids[table]
            keys = [
                key
                for key in {*self._stored[table], *kept}
                if any(
                    since < slices.window(key)[1] and slices.window(key)[0] < until for since, until in bounds
                )
            ]
            missing = [key for key in keys if key not in kept]
            self._ids[table] = {key: kept[key] for key in keys if key in kept}
            if missing:
                rows = self._log.lake.read(
                    f"{self._log.root}/{table}", missing, [*columns, _ATTEMPT, "slice"]
                )
                rows = rows.filter(pl.col(_ATTEMPT).is_in(self._attempts))
                parts = rows.partition_by("slice", as_dict=True)
                self._ids[table] |= {key: ids_of(parts.get((key,), rows.clear())) for key in missing}
            found[table] = pl.concat([getattr(Known(), table), *self._ids[table].values()])
        return Known(found["items"], found["impressions"], found["interactions"], self._last)

    def add(self, raw: RawEvents, events: Events, now: datetime) -> None:
        """Remember a chunk's."""
        for table, (_, ids_of) in _IDS.items():
            kept = self._ids[table]
            for (slice,), rows in getattr(events, table).partition_by("slice", as_dict=True).items():
                ids = ids_of(rows)
                kept[slice] = pl.concat([kept[slice], ids]) if slice in kept else ids
        last = last_times(raw, now, self._log.project.slices)
        self._last = pl.concat([self._last, last]).unique("source", keep="last")


_IDS: Mapping[str, tuple[tuple[str, ...], Callable[[pl.DataFrame], pl.DataFrame]]] = {
    "items": (("item_id", "known_at"), known_items),
    "impressions": (("impression_id", "user_id", "candidates"), lists_shown),
    "interactions": (("interaction_id",), lambda rows: rows.select("interaction_id")),
}
"""Table → the columns that ids are made of, and how."""


def _merged(
    windows: Sequence[tuple[datetime, datetime]], reach: timedelta
) -> list[tuple[datetime, datetime]]:
    """Windows in order, widened by `reach` to both sides; what overlaps becomes one."""
    found: list[tuple[datetime, datetime]] = []
    for begin, end in windows:
        if found and begin - reach <= found[-1][1]:
            found[-1] = (found[-1][0], end + reach)
        else:
            found.append((begin - reach, end + reach))
    return found


def _count(record: Record, raw: RawEvents, events: Events, slices: Slices) -> Record:
    kept = pl.concat([events.items["slice"], events.impressions["slice"], events.interactions["slice"]])
    return replace(
        record,
        rows=record.rows + raw.height,
        rejected=record.rejected + events.rejects.height,
        read=record.read + Read.of(raw, slices),
        slices=tuple(sorted({*record.slices, *kept.unique()})),
    )


def _next(records: Sequence[Record]) -> int:
    return records[-1].number + 1 if records else 1


def _name(file: LogFile) -> str:
    return str(file.path.resolve()) if len(file.files) == 1 else "MIND"


def _state(file: LogFile) -> tuple[int, str]:
    states = [path.stat() for _, path in file.files]
    return sum(state.st_size for state in states), ",".join(str(state.st_mtime_ns) for state in states)


def _grown(file: LogFile, before: Record, size: int) -> LogFile | None:
    """What was added to a log of lines since it was parsed; None where anything else changed."""
    by_lines = file.path.name.lower().endswith((".jsonl", ".ndjson", ".json"))
    if not by_lines or size <= before.size or not is_plain_text(file.path):
        return None
    lines = count_lines(file.path, before.size)
    if lines is None or _digest([file.path], before.size) != before.sha256:
        return None
    return replace(file, after=before.size, first=lines + 1)


def _digest(paths: Sequence[Path], size: int | None = None) -> str:
    """Hash of the files' bytes one after the other, or of the first `size` of them."""
    found = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(1 << 20 if size is None else min(1 << 20, size)):
                found.update(piece)
                size = None if size is None else size - len(piece)
    return found.hexdigest()
