"""Draft a project file from sample logs: `momentrank init`. Every key is a guess with evidence.

Guesses come from the content of the files; column names break ties. Large files are sampled: see `sample.py`.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from features.draft.guesses import Confidence, Guess, write_toml
from features.draft.metarank import guess_metarank, holds_events
from features.draft.mind_logs import BEHAVIORS, guess_mind
from features.draft.sample import ITEMS_FACTOR, find_files, read_head, read_samples
from features.draft.table_logs import guess_tables
from features.errors import SourceError

__all__ = ["Confidence", "Draft", "Guess", "as_name", "draft_project", "name_of"]

_GENERIC = {"logs", "log", "data", "events", "raw", "sample", "samples", "input", "inbox", "train", "export",
            "tables"}  # fmt: skip
"""Folder names that say nothing about the project."""


@dataclass(frozen=True)
class Draft:
    """A drafted project file."""

    name: str
    guesses: list[Guess]

    @property
    def text(self) -> str:
        """The project file, as TOML with comments."""
        return write_toml(self.name, self.guesses)

    @property
    def edits(self) -> list[Guess]:
        """Guesses that the user must complete."""
        return [guess for guess in self.guesses if guess.confidence == "edit"]


def draft_project(paths: Sequence[Path], items: Sequence[Path], name: str, folder: Path) -> Draft:
    """Draft a project file for `folder` from logs and, if they are separate files, items.

    Raises SourceError if there is no log or a file is of an unknown type.
    """
    for path in (*paths, *items):
        if not path.exists():
            raise SourceError(f"no file or folder {path}: name the logs or their folders")
    files = find_files(paths)
    item_files = find_files(items) if items else []
    behaviors = [path for path in files if path.name == BEHAVIORS]
    if behaviors:
        folders = [path.parent for path in behaviors]
        return Draft(name, guess_mind(folders, _locate(folders, folder)))
    events = [path for path in files if _is_events(path)]
    if events:
        others = [path for path in item_files if not _is_events(path)]
        if others:
            raise SourceError(
                f"{others[0]} has no item events, but {events[0].name} is in Metarank's format, where items are "
                "events: write the items as JSON lines, or the log as a table"
            )
        located = [*_shorten(paths, files, events), *(path for path in item_files if path not in files)]
        return Draft(
            name, guess_metarank(list(dict.fromkeys([*events, *item_files])), _locate(located, folder))
        )
    samples = read_samples([path for path in files if path not in item_files])

    def locate(kind: Sequence[Path]) -> str | tuple[str, ...]:
        return _locate(_shorten(paths, files, kind), folder)

    return Draft(name, guess_tables(samples, read_samples(item_files, ITEMS_FACTOR), locate))


def name_of(path: Path) -> str:
    """Derive a project name from the logs' path: the innermost folder whose name is not generic."""
    path = path.resolve()
    folders = [*([] if path.is_file() else [path]), *path.parents]
    names = (folder.name for folder in folders if folder.name and folder.name.lower() not in _GENERIC)
    return as_name(next(names, "project"))


def as_name(text: str) -> str:
    """Turn any text into a valid project name: `My Shop` → `my-shop`."""
    name = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:48]
    return name if name[:1].isalpha() else f"project-{name}".rstrip("-")


def _is_events(path: Path) -> bool:
    is_json = path.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson", ".json"))
    return is_json and holds_events(read_head(path, 1)[0])


def _shorten(paths: Sequence[Path], files: Sequence[Path], kind: Sequence[Path]) -> Sequence[Path]:
    """Files of one kind, or the given paths if these hold nothing else."""
    return paths if set(kind) == set(files) else kind


def _locate(paths: Sequence[Path], folder: Path) -> str | tuple[str, ...]:
    """Paths as written in a project file in `folder`: relative to it unless only the root is shared."""
    folder, names = folder.resolve(), dict[str, None]()
    for path in (path.resolve() for path in paths):
        shared = Path(os.path.commonpath([path, folder]))
        names[os.path.relpath(path, folder) if shared != Path(path.anchor) else str(path)] = None
    return next(iter(names)) if len(names) == 1 else tuple(names)
