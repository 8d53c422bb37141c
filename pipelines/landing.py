"""The landing folder: logs arrive in it, are taken in once, or are set aside with the reason beside them.

    landing/…            what arrives, in folders or not; `.hidden`, `*.part` and `*.tmp` are not looked at
    landing/accepted/…   what was taken in: the source's logs
    landing/refused/…    what was not, each with a `.reason` of one sentence beside it
    landing/records/     a line of JSON for each file taken in: its hash, its rows, the slices that they touch

A file is moved first and recorded after: one that was moved and not recorded is recorded the next time. Files
under a URL (`s3://bucket/logs`) are first copied to a folder of this machine, each version of one once.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import polars as pl

from features import sources
from features.errors import MomentRankError, ProjectError
from features.events import build
from features.project import Project
from features.sources.files import is_hidden

_OURS = ("accepted", "refused", "records", "fetched")
_UNFINISHED = (".part", ".tmp")
_UNREADABLE = (Exception, pl.exceptions.PanicException)
"""A panic of polars is no Exception. Whatever one file raises, the files after it are still taken in."""
Stamp = tuple[int, str]
"""Size and instant, or tag, of a file's last change."""


@dataclass(frozen=True)
class Record:
    """A file that was taken in; `slices` are those that its events touch."""

    number: int
    file: str
    sha256: str
    rows: int
    slices: tuple[str, ...]
    taken_at: str


@dataclass(frozen=True)
class Landing:
    """Where logs arrive. `folder` is of this machine; `url` is what it is a copy of, or empty."""

    folder: Path
    url: str = ""

    @property
    def accepted(self) -> Path:
        """Folder of what was taken in."""
        return self.folder / "accepted"

    def has_logs(self) -> bool:
        """Whether anything was taken in."""
        return any(path.is_file() for path in self.accepted.rglob("*"))

    def look(self) -> dict[str, Stamp]:
        """What lies there now and is not yet judged, by name."""
        return _objects(self.url) if self.url else dict(_files(self.folder))

    def settle(self, before: Mapping[str, Stamp], now: Mapping[str, Stamp]) -> list[str]:
        """Names of what stayed as it was since the last look: it is written to its end. Fetches what lies elsewhere."""
        still = sorted(name for name, stamp in now.items() if before.get(name) == stamp)
        return [name for name in still if self._fetch(name, now[name])] if self.url else still

    def records(self) -> list[Record]:
        """What was taken in, in order."""
        lines = self._log.read_text(encoding="utf-8").split("\n") if self._log.exists() else []
        # What stands behind the last line's end was cut short: that file is recorded anew.
        found = (json.loads(line) for line in lines[:-1] if line.endswith("}"))
        return [Record(**{**record, "slices": tuple(record["slices"])}) for record in found]

    @property
    def _log(self) -> Path:
        return self.folder / "records" / "records.jsonl"

    def take_in(self, name: str, project: Project, now: datetime) -> Record | str:
        """Accept one file of the folder, or set it aside and return the reason."""
        path = self.folder / name
        known = {record.sha256: record for record in self.records()}
        try:
            digest = _digest(path)
            if digest in known:
                raise ProjectError(
                    f"the same content was taken in before, as {known[digest].file} at {known[digest].taken_at}"
                )
            rows, slices = _judge(path, project, now)
            goal = _move(path, self.accepted / name, digest)
        except _UNREADABLE as error:
            return self._refuse(path, name, _reason(error))
        return self._record(goal, digest, rows, slices, now)

    def recover(self, project: Project, now: datetime) -> list[Record]:
        """Record what was moved and not recorded, because a look at the folder was cut short."""
        known = {record.file for record in self.records()}
        paths = sorted(path for path in self.accepted.rglob("*") if path.is_file())
        recorded = []
        for path in paths:
            name = path.relative_to(self.accepted).as_posix()
            if name in known:
                continue
            try:
                rows, slices = _judge(path, project, now)
            except _UNREADABLE as error:
                self._refuse(path, name, _reason(error))
            else:
                recorded.append(self._record(path, _digest(path), rows, slices, now))
        return recorded

    def _record(self, path: Path, digest: str, rows: int, slices: tuple[str, ...], now: datetime) -> Record:
        number = len(self.records()) + 1
        file = path.relative_to(self.accepted).as_posix()
        record = Record(number, file, digest, rows, slices, now.isoformat(timespec="seconds"))
        # Begun on a line of its own, whatever the one before was cut short to.
        torn = self._log.exists() and not self._log.read_bytes().endswith(b"\n")
        with self._log.open("a", encoding="utf-8") as log:
            log.write("\n" * torn + json.dumps(asdict(record)) + "\n")
        return record

    def _refuse(self, path: Path, name: str, reason: str) -> str:
        aside = self.folder / "refused" / name
        _write(aside.with_name(aside.name + ".reason"), reason + "\n")
        path.replace(aside)
        return reason

    def _fetch(self, name: str, stamp: Stamp) -> bool:
        """Copy one object here, unless this version of it was copied before."""
        note = self.folder / "fetched" / hashlib.sha256(f"{name} {stamp}".encode()).hexdigest()
        if note.exists():
            return False
        system, root = _open(self.url)
        goal = self.folder / name
        goal.parent.mkdir(parents=True, exist_ok=True)
        draft = goal.with_name(goal.name + ".part")
        system.get_file(f"{root}/{name}", str(draft))
        draft.replace(goal)
        _write(note, name + "\n")
        return True


def open_landing(project: Project, home: Path) -> Landing | None:
    """The project's landing folder, made where it is missing; None where none is declared. Raises ProjectError."""
    named = project.source.landing
    if not named:
        return None
    remote = "://" in named
    folder = home / "landing" / project.name if remote else project.folder / Path(named).expanduser()
    try:
        for name in ("", *_OURS):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProjectError(
            f"source.landing: {folder} cannot be written ({error.strerror or error}): name a folder that can"
        ) from None
    return Landing(folder, named.rstrip("/") if remote else "")


def _judge(path: Path, project: Project, now: datetime) -> tuple[int, tuple[str, ...]]:
    """Rows and slices of a log. Raises SourceError for what is none, or ends in the middle."""
    raw = sources.read(project, [path])
    sources.require_rows(raw, project)
    if "truncated_gzip" in raw.rejects["reason"]:
        raise ProjectError(f"{path.name} is a gz that breaks off: send it again, whole")
    found = build(raw, project, now)
    slices = {key for table in (found.items, found.impressions, found.interactions) for key in table["slice"]}
    return raw.height, tuple(sorted(slices))


def _reason(error: BaseException) -> str:
    said = str(error)
    return said if isinstance(error, MomentRankError) else f"{type(error).__name__}: {said}"


def _files(folder: Path) -> Iterator[tuple[str, Stamp]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.parts[0] not in _OURS and _is_finished(name):
            state = path.stat()
            yield name.as_posix(), (state.st_size, str(state.st_mtime_ns))


def _objects(url: str) -> dict[str, Stamp]:
    system, root = _open(url)
    listed: dict[str, dict[str, Any]] = system.find(root, detail=True)
    found = {}
    for key, told in listed.items():
        name = key.removeprefix(root).lstrip("/")
        stamp = next(
            (told[tag] for tag in ("ETag", "etag", "mtime", "LastModified", "created") if tag in told), ""
        )
        if _is_finished(PurePosixPath(name)) and ".." not in PurePosixPath(name).parts:
            found[name] = (int(told["size"]), str(stamp))
    return found


def _open(url: str) -> tuple[Any, str]:
    try:
        system, root = import_module("fsspec.core").url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise ProjectError(
            f"source.landing {url!r} cannot be opened ({error}): install the fsspec package of its store, "
            "for example s3fs, or name a folder"
        ) from None
    return system, str(root).rstrip("/")


def _is_finished(path: PurePath) -> bool:
    return not is_hidden(path) and not path.name.endswith(_UNFINISHED)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _move(path: Path, goal: Path, digest: str) -> Path:
    """Move to `goal`, or beside it where a file of that name came before. The name's endings stay what they are."""
    if goal.exists():
        goal = goal.with_name(f"{digest[:8]}-{goal.name}")
    goal.parent.mkdir(parents=True, exist_ok=True)
    return path.replace(goal)


def _write(path: Path, text: str) -> None:
    """Write a file that is whole whenever it is seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
