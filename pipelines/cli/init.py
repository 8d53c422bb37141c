"""`momentrank init`: draft a project file from sample logs and show the evidence."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from features.draft import Draft, as_name, draft_project, name_of
from features.draft.guesses import literal
from features.errors import ProjectError
from pipelines.terminal import Terminal, styled

_ORDER = {"edit": 0, "low": 1, "medium": 2, "high": 3}


def write_draft(
    logs: Sequence[Path], items: Sequence[Path], output: Path | None, name: str | None, force: bool
) -> tuple[Draft, Path]:
    """Draft a project and write its file, by default `projects/NAME.toml`.

    Raises ProjectError if the file exists and `force` is not set, SourceError if there is no log.
    """
    name = as_name(name) if name else as_name(output.stem) if output else name_of(logs[0])
    path = output or Path("projects") / f"{name}.toml"
    if path.exists() and not force:
        raise ProjectError(f"{path} already exists: name another file with -o, or overwrite it with --force")
    draft = draft_project(logs, items, name, path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(draft.text, encoding="utf-8")
    return draft, path


def show_draft(out: Terminal, draft: Draft, path: Path) -> None:
    """Print each guess with its evidence and confidence, then what to review or edit."""
    table = Table("key", "guess", "confidence", "evidence", title=f"{draft.name}: guesses from the logs")
    for guess in draft.guesses:
        value = "–" if guess.value is None else literal(guess.value)
        table.add_row(guess.key, value, guess.confidence, guess.evidence)
    out.print(table)
    reviews = [guess for guess in draft.guesses if guess.review]
    for guess in sorted(reviews, key=lambda guess: _ORDER[guess.confidence]):
        out.print(f"  review {guess.key}: {guess.review}", soft_wrap=True)
    for guess in draft.edits:
        out.print(
            styled(("  needs an edit: ", "bold"), (f"{guess.key}. {guess.evidence}", "")), soft_wrap=True
        )
    out.print(f"wrote {path}; next: momentrank check {shlex.quote(str(path))}", soft_wrap=True)
