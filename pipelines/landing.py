"""The landing folder, where log files arrive. Parsed files stay there; the event log records them.

`.hidden`, `*.part` and `*.tmp` are ignored. A file under a URL (`s3://bucket/logs`) is copied to this machine while it
is parsed.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePath, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from features.config.project import Project
from features.errors import ProjectError
from features.sources.files import is_hidden

_UNFINISHED = (".part", ".tmp")
Stamp = tuple[int, str]
"""Size of a file, and the time or tag of its last change."""


@dataclass(frozen=True)
class Landing:
    """Where logs arrive: a local `folder`; if `url` is not empty, files are there and `folder` is for copies."""

    folder: Path
    url: str = ""

    def look(self) -> dict[str, Stamp]:
        """Name → stamp of every complete file that is there now."""
        return _objects(self.url) if self.url else dict(_files(self.folder))

    def place(self, name: str) -> str:
        """Path or URL of a file, as the event log records it."""
        return f"{self.url}/{name}" if self.url else str((self.folder / name).resolve())

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        """The file's local path; for a remote file, of a temporary copy."""
        if not self.url:
            yield self.folder / name
            return
        system, root = _open(self.url)
        with TemporaryDirectory(dir=self.folder) as folder:
            copy = Path(folder) / PurePosixPath(name).name
            system.get_file(f"{root}/{name}", str(copy))
            yield copy


def settled(before: Mapping[str, Stamp], now: Mapping[str, Stamp]) -> list[str]:
    """Names of files unchanged since the last look, sorted: these are completely written."""
    return sorted(name for name, stamp in now.items() if before.get(name) == stamp)


def open_landing(project: Project, home: Path) -> Landing | None:
    """The project's landing folder, created if missing; None if it declares none. Raises ProjectError."""
    landing = project.source.landing
    if not landing:
        return None
    remote = "://" in landing
    folder = home / "landing" / project.name if remote else project.folder / Path(landing).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProjectError(
            f"source.landing: {folder} cannot be written ({error.strerror or error}): name a writable folder"
        ) from None
    return Landing(folder, landing.rstrip("/") if remote else "")


def _files(folder: Path) -> Iterator[tuple[str, Stamp]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and _is_finished(name):
            stat = path.stat()
            yield name.as_posix(), (stat.st_size, str(stat.st_mtime_ns))


def _objects(url: str) -> dict[str, Stamp]:
    system, root = _open(url)
    objects: dict[str, dict[str, Any]] = system.find(root, detail=True)
    stamps = {}
    for key, info in objects.items():
        name = key.removeprefix(root).lstrip("/")
        changed = next(
            (info[tag] for tag in ("ETag", "etag", "mtime", "LastModified", "created") if tag in info), ""
        )
        if _is_finished(PurePosixPath(name)) and ".." not in PurePosixPath(name).parts:
            stamps[name] = (int(info["size"]), str(changed))
    return stamps


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
