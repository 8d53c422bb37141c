"""`momentrank init`: a project file drafted from sample logs, written where none is yet, and its evidence shown."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from features.draft import Draft, as_name, draft_project, name_of
from features.draft.toml_text import literal
from features.errors import ProjectError
from pipelines.terminal import Terminal, styled

_ORDER = {"edit": 0, "low": 1, "medium": 2, "high": 3}


def write_draft(
    logs: Sequence[Path], items: Sequence[Path], output: Path | None, name: str | None, force: bool
) -> tuple[Draft, Path]:
    """Draft a project and write its file, by default `projects/NAME.toml`.

    Raises ProjectError where the file exists and `force` is not set, SourceError where no log is found.
    """
    name = as_name(name) if name else as_name(output.stem) if output else name_of(logs[0])
    path = output or Path("projects") / f"{name}.toml"
    if path.exists() and not force:
        raise ProjectError(f"{path} exists already: name another file with -o, or overwrite it with --force")
    draft = draft_project(logs, items, name, path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(draft.text, encoding="utf-8")
    return draft, path


def show_draft(out: Terminal, draft: Draft, path: Path) -> None:
    """A table of what was guessed, why and how surely; then what a person should look at."""
    table = Table("key", "guess", "confidence", "evidence", title=f"{draft.name}: what the logs say")
    for guess in draft.guesses:
        value = "–" if guess.value is None else literal(guess.value)
        table.add_row(guess.key, value, guess.confidence, guess.evidence)
    out.print(table)
    reviews = [guess for guess in draft.guesses if guess.review]
    for guess in sorted(reviews, key=lambda guess: _ORDER[guess.confidence]):
        out.print(f"  look at {guess.key}: {guess.review}", soft_wrap=True)
    for guess in draft.edits:
        out.print(
            styled(("  needs an edit: ", "bold"), (f"{guess.key}. {guess.evidence}", "")), soft_wrap=True
        )
    out.print(f"wrote {path}; next: momentrank check {shlex.quote(str(path))}", soft_wrap=True)
