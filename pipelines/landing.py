"""The landing folder: where logs arrive. What was parsed stays where it is; the event log knows it.

`.hidden`, `*.part` and `*.tmp` are not looked at. Files under a URL (`s3://bucket/logs`) are copied to this machine for
as long as they are parsed.
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
"""Size and instant, or tag, of a file's last change."""


@dataclass(frozen=True)
class Landing:
    """Where logs arrive. `folder` is of this machine; `url` is what it is a copy of, or empty."""

    folder: Path
    url: str = ""

    def look(self) -> dict[str, Stamp]:
        """What lies there now and is not yet evaluated, by name."""
        return _objects(self.url) if self.url else dict(_files(self.folder))

    def place(self, name: str) -> str:
        """Where a file lies, as the event log knows it."""
        return f"{self.url}/{name}" if self.url else str((self.folder / name).resolve())

    @contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        """The file; a copy, for as long as it is needed, of what lies elsewhere."""
        if not self.url:
            yield self.folder / name
            return
        system, root = _open(self.url)
        with TemporaryDirectory(dir=self.folder) as folder:
            copy = Path(folder) / PurePosixPath(name).name
            system.get_file(f"{root}/{name}", str(copy))
            yield copy


def settled(before: Mapping[str, Stamp], now: Mapping[str, Stamp]) -> list[str]:
    """Names of what stayed as it was since the last look: it is written to its end."""
    return sorted(name for name, stamp in now.items() if before.get(name) == stamp)


def open_landing(project: Project, home: Path) -> Landing | None:
    """The project's landing folder, made where it is missing; None where none is declared. Raises ProjectError."""
    named = project.source.landing
    if not named:
        return None
    remote = "://" in named
    folder = home / "landing" / project.name if remote else project.folder / Path(named).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProjectError(
            f"source.landing: {folder} cannot be written ({error.strerror or error}): name a folder that can"
        ) from None
    return Landing(folder, named.rstrip("/") if remote else "")


def _files(folder: Path) -> Iterator[tuple[str, Stamp]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and _is_finished(name):
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
