"""Guesses, one per key of the project file, and the file's text: each key below a comment with its evidence."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from features.draft.names import suggests

_SECTIONS = ("source", "source.tables", "slices", "labels", "items", "context", "features")
_BARE = re.compile(r"^[A-Za-z0-9_-]+$")
Confidence = Literal["high", "medium", "low", "edit"]
"""`edit`: the logs do not show it; the user must write the key."""


@dataclass(frozen=True)
class Guess:
    """A key of the project file, its value and the evidence. A key with value None is written as a comment."""

    key: str
    """Dotted, for example `source.tables.user`."""
    value: object
    evidence: str
    confidence: Confidence = "high"
    review: str = ""
    """What the user should check, in one sentence, or empty."""


def named(key: str, name: str, evidence: str, role: str, otherwise: Confidence = "medium") -> Guess:
    """A guess of a column, of high confidence if its name suggests the role."""
    return Guess(key, name, evidence, "high" if suggests(name, role) else otherwise)


def join_names(names: list[str], limit: int = 8) -> str:
    """Join names for a sentence: `a, b, c and 4 more`."""
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


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
