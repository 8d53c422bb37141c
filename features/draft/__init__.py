"""A project file drafted from sample logs: `momentrank init`. Every key is a guess, with its evidence.

The guesses come from what the files hold; names of columns only break ties. No file is read whole: see `sample.py`.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from features.draft.guesses import Confidence, Guess
from features.draft.metarank import guess_metarank, holds_events
from features.draft.mind import BEHAVIORS, guess_mind
from features.draft.sample import MORE, find_files, read_head, take
from features.draft.tables import guess_tables
from features.draft.toml_text import write_toml
from features.errors import SourceError

__all__ = ["Confidence", "Draft", "Guess", "as_name", "draft_project", "name_of"]

_GENERIC = {
    "logs",
    "log",
    "data",
    "events",
    "raw",
    "sample",
    "samples",
    "input",
    "inbox",
    "train",
    "export",
    "tables",
}
"""Names of folders that say nothing about the project."""


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
        """What the logs do not decide."""
        return [guess for guess in self.guesses if guess.confidence == "edit"]


def draft_project(paths: Sequence[Path], items: Sequence[Path], name: str, folder: Path) -> Draft:
    """Draft a project file that will lie in `folder`, from logs and, where they are apart, items.

    Raises SourceError where there is no log, or a file is of an unknown type.
    """
    for path in (*paths, *items):
        if not path.exists():
            raise SourceError(f"no file or folder {path}: name the logs, or folders of them")
    files = find_files(paths)
    described = find_files(items) if items else []
    behaviors = [path for path in files if path.name == BEHAVIORS]
    if behaviors:
        folders = [path.parent for path in behaviors]
        return Draft(name, guess_mind(folders, _locate(folders, folder)))
    events = [path for path in files if _is_events(path)]
    if events:
        whole = list(dict.fromkeys([*events, *described]))
        others = [path for path in described if not _is_events(path)]
        if others:
            raise SourceError(
                f"{others[0]} holds no item events, but {events[0].name} is in Metarank's format, whose items are "
                "events too: write them as JSON lines, or the log as a table"
            )
        named = [*_together(paths, files, events), *(path for path in described if path not in files)]
        return Draft(name, guess_metarank(whole, _locate(named, folder)))
    samples = take([path for path in files if path not in described])

    def locate(kind: Sequence[Path]) -> str | tuple[str, ...]:
        return _locate(_together(paths, files, kind), folder)

    return Draft(name, guess_tables(samples, take(described, MORE), locate))


def name_of(path: Path) -> str:
    """A project's name from where its logs lie: the first folder above them that says something."""
    whole = path.resolve()
    above = [*([] if whole.is_file() else [whole]), *whole.parents]
    return as_name(
        next((one.name for one in above if one.name and one.name.lower() not in _GENERIC), "project")
    )


def as_name(said: str) -> str:
    """Any words as a project's name: `My Shop` is `my-shop`."""
    name = re.sub(r"[^a-z0-9_-]+", "-", said.lower()).strip("-_")[:48]
    return name if name[:1].isalpha() else f"project-{name}".rstrip("-")


def _is_events(path: Path) -> bool:
    names = (".jsonl", ".ndjson", ".json")
    if not path.name.lower().removesuffix(".gz").endswith(names):
        return False
    return holds_events(read_head(path, 1)[0])


def _together(paths: Sequence[Path], files: Sequence[Path], kind: Sequence[Path]) -> Sequence[Path]:
    """The files of a kind; the folders given instead, where they hold nothing else."""
    return paths if set(kind) == set(files) else kind


def _locate(paths: Sequence[Path], folder: Path) -> str | tuple[str, ...]:
    """Paths as a project file in `folder` names them: relative to it where they lie near."""
    named = tuple(dict.fromkeys(_written(path.resolve(), folder.resolve()) for path in paths))
    return named[0] if len(named) == 1 else named


def _written(path: Path, folder: Path) -> str:
    shared = Path(os.path.commonpath([path, folder]))
    return os.path.relpath(path, folder) if shared != Path(path.anchor) else str(path)
