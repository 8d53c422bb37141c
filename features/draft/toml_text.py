"""Guesses → the text of a project file, each key below a comment with its evidence."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from features.draft.guesses import Guess

_SECTIONS = ("source", "source.tables", "slices", "labels", "items", "context", "features")
_BARE = re.compile(r"^[A-Za-z0-9_-]+$")


def write_toml(name: str, guesses: Sequence[Guess]) -> str:
    """Write the project file. The key of a guess without a value is commented out."""
    lines = [
        "# Drafted by momentrank init from a sample of the logs. Check the comments; complete the keys marked EDIT.",
        f"name = {literal(name)}",
    ]
    for section in _SECTIONS:
        inside = [guess for guess in guesses if guess.key.rpartition(".")[0] == section]
        if inside:
            lines += ["", f"[{section}]"]
        for guess in inside:
            lines += _lines(guess)
    return "\n".join(lines) + "\n"


def literal(value: object) -> str:
    """Format a value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # TOML shares JSON's escapes, except for DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, Mapping):
        pairs = (
            f"{key if _BARE.match(key) else literal(key)} = {literal(entry)}" for key, entry in value.items()
        )
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, Sequence):
        return "[" + ", ".join(literal(entry) for entry in value) + "]"
    return repr(value)


def _lines(guess: Guess) -> list[str]:
    mark = "EDIT: " if guess.confidence == "edit" else ""
    confidence = "" if guess.confidence in ("edit", "high") else f" ({guess.confidence} confidence)"
    lines = [f"# {mark}{_plain(guess.evidence)}{confidence}"]
    if guess.review:
        lines.append(f"# {_plain(guess.review)}")
    key = guess.key.rpartition(".")[2]
    if guess.value is not None:
        return [*lines, f"{key} = {literal(guess.value)}"]
    return [*lines, f"# {key} ="]


def _plain(text: str) -> str:
    """Replace control characters, which TOML does not allow in comments."""
    return re.sub(r"[\x00-\x1f\x7f]", " ", text)
