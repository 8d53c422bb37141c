"""The event log: every file of a project's logs, parsed once.

    event_log/<settings>/items, impressions, interactions, rejects   validated rows, by slice
    event_log/<settings>/files                                       one row per file: its hash, row counts, slices

A file is parsed in chunks. Readers ignore their rows until the file's row is in `files`: if parsing is interrupted, the
file is parsed again. Other settings of source, items, context or slices make another log: changing one of them parses
all files again.
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
from filelock import FileLock

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
from pipelines.identities import Privacy
from pipelines.lake import Lake, Part

ROOT = "event_log"
TABLES = {
    "items": (schemas.Items, ("known_at", "item_id")),
    "impressions": (schemas.Impressions, ("shown_at", "impression_id")),
    "interactions": (schemas.Interactions, ("known_at", "interaction_id")),
    "rejects": (schemas.Rejects, ("slice", "source", "line", "reason", "raw")),
}
"""Table → its schema, and the columns that order its rows."""
_FORMAT = 1
"""Increase when readers produce other rows from the same file."""
_ALL = "all"
"""The one slice of `files`."""
_ATTEMPT = "attempt"
"""Column of every table: the parsing attempt that wrote the row."""


@dataclass(frozen=True)
class Record:
    """A file that was parsed, or rejected with a reason."""

    number: int
    path: str
    size: int
    stamp: str
    """Time or tag of the last change. If it and the size are unchanged, the file is not opened again."""
    sha256: str
    attempt: str = ""
    rows: int = 0
    rejected: int = 0
    read: Read = field(default_factory=Read)
    slices: tuple[str, ...] = ()
    """Slices of its valid events."""
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
    """Wraps an error in reading a file, as opposed to one in writing to the lake."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class EventLog:
    """The event log of one project in its lake. One process per machine writes to it at a time."""

    lake: Lake
    project: Project
    privacy: Privacy
    lock: Path
    tell: Callable[[str], None] = field(default=lambda line: None)
    _known: dict[int, list[Record]] = field(default_factory=dict, repr=False, compare=False)
    """Version of the table `files` → its records."""

    @cached_property
    def root(self) -> str:
        """Prefix of the names of the log's tables; it depends on the settings."""
        project, source = self.project, self.project.source
        settings: dict[str, object] = {
            "format": _FORMAT,
            "source": source.model_dump(
                mode="json", exclude={"path", "landing", "allowed_lateness", "chunk_rows"}
            ),
            "items": project.items.model_dump(mode="json"),
            "context": project.context.model_dump(mode="json"),
            "slices": project.slices.model_dump(mode="json"),
            "pseudonyms": self.privacy.pseudonyms and self.privacy.pseudonyms.fingerprint,
        }
        if source.format == "newsroom":
            settings["world"] = newsroom.marker(project.reader)
        if self._draws_lists:
            settings["seed"] = project.seed
        return f"{ROOT}/{hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]}"

    @property
    def _draws_lists(self) -> bool:
        tables = self.project.source.tables
        return tables is not None and tables.shape == "interactions"

    def records(self) -> list[Record]:
        """Every file that was parsed or rejected, in order."""
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
        """Slices with rows in any of `tables` (default: all), in order."""
        return sorted({key for table in tables or TABLES for key in self.lake.slices(f"{self.root}/{table}")})

    def events(self, slices: Iterable[str] | None = None) -> Events:
        """The events of some slices, by default all."""
        keys = None if slices is None else [*slices]
        return Events(**{table: self.read(table, keys) for table in TABLES})

    def read(
        self, table: str, slices: Iterable[str] | None = None, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """A table of `Events`, or columns of it, for some slices, by default all.

        Rows are sorted; those of interrupted attempts are left out.
        """
        schema, order = TABLES[table]
        name = f"{self.root}/{table}"
        keys = self.lake.slices(name)
        if slices is not None:
            requested = {*slices}
            keys = [key for key in keys if key in requested]
        if not keys:
            return schema.create_empty().with_columns(slice=pl.lit("")).select(columns or pl.all())
        attempts = [record.attempt for record in self.records()]
        rows = self.lake.read(name, keys, columns and [*columns, *order, _ATTEMPT])
        rows = rows.filter(pl.col(_ATTEMPT).is_in(attempts)).drop(_ATTEMPT).sort(order)
        return rows.select(columns or pl.all())

    def walk(self, slices: Sequence[str]) -> Iterator[tuple[str, Events, pl.DataFrame]]:
        """Yield each slice with its events and all interactions that may count for its impressions.

        `slices` must be in order. Interactions are read once and cached while a slice may need them.
        """
        cached: dict[str, pl.DataFrame] = {}
        stored = self.slices("interactions")
        for slice in slices:
            begin, end = self.project.slices.window(slice)
            keys = [key for key in stored if key >= slice and self._is_near(key, begin, end)]
            missing = [key for key in keys if key not in cached]
            read = self.read("interactions", missing).partition_by("slice", as_dict=True) if missing else {}
            cached |= {key: rows for (key,), rows in read.items()}
            cached = {key: cached[key] for key in keys if key in cached}
            tables = {table: self.read(table, [slice]) for table in TABLES if table != "interactions"}
            empty = schemas.Interactions.create_empty().with_columns(slice=pl.lit(""))
            events = Events(**tables, interactions=cached.get(slice, empty))
            yield slice, events, pl.concat([empty, *cached.values()])

    def before(self, slice: str) -> tuple[list[str], list[str]]:
        """Earlier slices whose labels late events may change, and slices from this one on with such events."""
        begin, _ = self.project.slices.window(slice)
        nearby = [
            key for key in self.slices("impressions", "interactions") if self._is_near(key, begin, begin)
        ]
        return [key for key in nearby if key < slice], [key for key in nearby if key >= slice]

    def _is_near(self, key: str, begin: datetime, end: datetime) -> bool:
        since, until = self.project.slices.window(key)
        return until > begin - self.reach and since < end + self.reach

    @property
    def reach(self) -> timedelta:
        """How long after an impression an interaction that counts for it may become known."""
        source = self.project.source
        return source.allowed_lateness + source.known_after + self.project.labels.attribution

    def take_in(self, paths: Sequence[Path]) -> list[Record]:
        """Parse the new files. Raises SourceError for a changed one, and what readers raise."""
        with FileLock(self.lock):
            known = {(record.path, record.size, record.stamp) for record in self.records()}
            parsed = []
            for file in log_files(self.project.reader, paths):
                path, size, stamp = _name(file), *_stamp(file)
                if (path, size, stamp) in known:
                    continue
                try:
                    parsed.append(self._parse_new(file, path, size, stamp))
                except _UnreadableError as error:
                    raise error.error from None
        return [record for record in parsed if record]

    def arrive(self, name: str, path: Path, location: str, size: int, stamp: str) -> Record:
        """Parse a file that arrived, or record why it is rejected. `location`: path or URL; `path` may be a copy."""
        with FileLock(self.lock):
            try:
                *items, file = self._files(path)
                for table in items:
                    self._parse_new(table, _name(table), *_stamp(table))
                file = replace(file, files=((name, path),))
                record = self._parse_new(file, location, size, stamp, complete=True)
            except _UnreadableError as error:
                record = self._reject(path, location, size, stamp, error.error)
            if record is None:
                return next(record for record in reversed(self.records()) if record.path == location)
        return record

    def _files(self, path: Path) -> list[LogFile]:
        try:
            return log_files(self.project.reader, [path])
        except SourceError as error:
            raise _UnreadableError(error) from error

    def _reject(self, path: Path, location: str, size: int, stamp: str, error: BaseException) -> Record:
        reason = str(error) if isinstance(error, SourceError) else f"{type(error).__name__}: {error}"
        records = self.records()
        record = Record(_next(records), location, size, stamp, _digest([path]), refused=reason)
        self._save([*records, record])
        return record

    def _parse_new(
        self, file: LogFile, location: str, size: int, stamp: str, *, complete: bool = False
    ) -> Record | None:
        """Parse a file unless it was parsed before. `complete`: a truncated or empty one is unreadable."""
        records, processed = self.records(), {*self.lake.slices("candidates")}
        before = next((record for record in reversed(records) if record.path == location), None)
        if before and (before.size, before.stamp) == (size, stamp):
            return None
        digest = _digest([path for _, path in file.files])
        new = Record(_next(records), location, size, stamp, digest, parsed_at=datetime.now(UTC))
        same = next((record for record in records if record.sha256 == digest and not record.refused), None)
        if same:
            if same is before:
                self._save([replace(same, stamp=stamp) if record is same else record for record in records])
                return None
            self.tell(f"{file.source} has the same content as {same.path}, which was parsed before")
            self._save([*records, new])
            return None
        earlier = [record for record in records if record.path == location and record.attempt]
        if earlier:
            appended = _appended(file, earlier[-1], size)
            if appended is None:
                if any({*record.slices} & processed for record in earlier):
                    raise _UnreadableError(self._changed(file, earlier[-1]))
                records = [record for record in records if record not in earlier]
            file = appended or file
        record = self._parse(file, new, complete)
        self._save([*records, record])
        return record

    def _changed(self, file: LogFile, before: Record) -> SourceError:
        return SourceError(
            f"{file.path} changed since it was parsed at {before.parsed_at:%Y-%m-%d %H:%M}, and runs have used it: "
            "restore it and write new events to another file (only a plain .jsonl may grow), or remove "
            f"{self.lake.location(self.root)}, so that every file is parsed again, and run all slices again"
        )

    def _parse(self, file: LogFile, new: Record, complete: bool) -> Record:
        """Write a file's rows; they count once the returned record is in `files`."""
        self.privacy.record_key()
        record = replace(new, attempt=uuid4().hex[:16])
        drafted: dict[str, list[Part]] = {table: [] for table in TABLES}
        for raw, events in self._validated(file, complete):
            record = _count(record, raw, events, self.project.slices)
            for table, parts in drafted.items():
                rows = getattr(events, table).with_columns(pl.lit(record.attempt).alias(_ATTEMPT))
                for slice, part in _by_slice(rows):
                    parts.append(self.lake.draft(f"{self.root}/{table}", slice, part))
        for table, parts in drafted.items():
            self.lake.add(f"{self.root}/{table}", parts)
        return record

    def _validated(self, file: LogFile, complete: bool) -> Iterator[tuple[RawEvents, Events]]:
        """A file's chunks, raw and validated. Any error, even a Polars panic, becomes `_UnreadableError`."""
        now, rows = datetime.now(UTC), 0
        rejects = [SCHEMAS["rejects"].to_frame().drop("at")]
        nearby = _NearbyIds(self)
        try:
            for read in chunks(self.project.reader, file, self.privacy.hide, self._past()):
                raw = self.privacy.clean(read)
                known = nearby.known(raw, now)
                events = build(raw, self.project.slices, now, known)
                nearby.add(raw, events, now)
                rows += raw.height
                rejects.append(events.rejects.drop("slice"))
                if complete and "truncated_gzip" in events.rejects["reason"]:
                    raise SourceError(f"{file.path.name} is a truncated gzip file: send it again")
                yield raw, events
            if complete:
                require_rows(rows, pl.concat(rejects), self.project.source.format)
        except (Exception, pl.exceptions.PanicException) as error:
            raise _UnreadableError(error) from error

    def _past(self) -> Past | None:
        """For a log without impressions: the items and interactions that impressions are sampled from."""
        if not self._draws_lists:
            return None
        rows = self.read("interactions", columns=["impression_id", "item_id", "happened_at", "known_at"])
        rows = rows.select(key="impression_id", item="item_id", at="happened_at", known="known_at")
        return Past(rows, self.read("items", columns=["item_id", "known_at"]))

    def require_rows(self) -> None:
        """Raise SourceError if no row of any file could be read."""
        records = self.records()
        if sum(record.rows for record in records) == sum(record.rejected for record in records):
            rejects = self.read("rejects")
            require_rows(rejects.height, rejects, self.project.source.format)

    def _save(self, records: Sequence[Record]) -> None:
        rows = pl.DataFrame(
            [{**vars(record), "read": vars(record.read)} for record in records], schema=_RECORDS
        )
        self.lake.write(f"{self.root}/files", _ALL, rows)


class _NearbyIds:
    """Ids in the slices within `EventLog.reach` of a file's rows, to reject duplicates."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._attempts = [record.attempt for record in log.records()]
        self._stored: Mapping[str, list[str]] = {
            table: log.lake.slices(f"{log.root}/{table}") for table in TABLES
        }
        self._ids: dict[str, dict[str, pl.DataFrame]] = {table: {} for table in _IDS}
        self._last = Known().last

    def known(self, raw: RawEvents, now: datetime) -> Known:
        """Ids known before a chunk; those of distant slices are dropped."""
        slices = self._log.project.slices
        bounds = _merged([slices.window(key) for key in touched(raw, slices, now)], self._log.reach)
        known = {}
        for table, (columns, ids_of) in _IDS.items():
            cached = self._ids[table]
            keys = [
                key
                for key in {*self._stored[table], *cached}
                if any(
                    since < slices.window(key)[1] and slices.window(key)[0] < until for since, until in bounds
                )
            ]
            missing = [key for key in keys if key not in cached]
            self._ids[table] = {key: cached[key] for key in keys if key in cached}
            if missing:
                rows = self._log.lake.read(
                    f"{self._log.root}/{table}", missing, [*columns, _ATTEMPT, "slice"]
                )
                rows = rows.filter(pl.col(_ATTEMPT).is_in(self._attempts))
                parts = dict(_by_slice(rows))
                self._ids[table] |= {key: ids_of(parts.get(key, rows.clear())) for key in missing}
            known[table] = pl.concat([getattr(Known(), table), *self._ids[table].values()])
        return Known(known["items"], known["impressions"], known["interactions"], self._last)

    def add(self, raw: RawEvents, events: Events, now: datetime) -> None:
        """Add the ids of a chunk."""
        for table, (_, ids_of) in _IDS.items():
            cached = self._ids[table]
            for slice, rows in _by_slice(getattr(events, table)):
                ids = ids_of(rows)
                cached[slice] = pl.concat([cached[slice], ids]) if slice in cached else ids
        last = last_times(raw, now, self._log.project.slices)
        self._last = pl.concat([self._last, last]).unique("source", keep="last")


_IDS: Mapping[str, tuple[tuple[str, ...], Callable[[pl.DataFrame], pl.DataFrame]]] = {
    "items": (("item_id", "known_at"), known_items),
    "impressions": (("impression_id", "user_id", "candidates"), lists_shown),
    "interactions": (("interaction_id",), lambda rows: rows.select("interaction_id")),
}
"""Table → the columns that its ids are made of, and the function that makes them."""


def _by_slice(rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """The rows of each slice, which are adjacent: a view, where a partition would be a copy."""
    start = 0
    for length, slice in rows["slice"].rle().struct.unnest().iter_rows():
        yield slice, rows.slice(start, length)
        start += length


def _merged(
    windows: Sequence[tuple[datetime, datetime]], reach: timedelta
) -> list[tuple[datetime, datetime]]:
    """Sorted windows, widened by `reach` on both sides; overlapping ones are merged."""
    merged: list[tuple[datetime, datetime]] = []
    for begin, end in windows:
        if merged and begin - reach <= merged[-1][1]:
            merged[-1] = (merged[-1][0], end + reach)
        else:
            merged.append((begin - reach, end + reach))
    return merged


def _count(record: Record, raw: RawEvents, events: Events, slices: Slices) -> Record:
    slices_of_rows = pl.concat(
        [events.items["slice"], events.impressions["slice"], events.interactions["slice"]]
    )
    return replace(
        record,
        rows=record.rows + raw.height,
        rejected=record.rejected + events.rejects.height,
        read=record.read + Read.of(raw, slices),
        slices=tuple(sorted({*record.slices, *slices_of_rows.unique()})),
    )


def _next(records: Sequence[Record]) -> int:
    return records[-1].number + 1 if records else 1


def _name(file: LogFile) -> str:
    return str(file.path.resolve()) if len(file.files) == 1 else "MIND"


def _stamp(file: LogFile) -> tuple[int, str]:
    stats = [path.stat() for _, path in file.files]
    return sum(stat.st_size for stat in stats), ",".join(str(stat.st_mtime_ns) for stat in stats)


def _appended(file: LogFile, before: Record, size: int) -> LogFile | None:
    """The lines appended to a line-based log since it was parsed; None if anything else changed."""
    by_lines = file.path.name.lower().endswith((".jsonl", ".ndjson", ".json"))
    if not by_lines or size <= before.size or not is_plain_text(file.path):
        return None
    lines = count_lines(file.path, before.size)
    if lines is None or _digest([file.path], before.size) != before.sha256:
        return None
    return replace(file, after=before.size, first=lines + 1)


def _digest(paths: Sequence[Path], size: int | None = None) -> str:
    """Hash of the concatenated files, or of their first `size` bytes."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while piece := file.read(1 << 20 if size is None else min(1 << 20, size)):
                digest.update(piece)
                size = None if size is None else size - len(piece)
    return digest.hexdigest()
