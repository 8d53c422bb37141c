"""Markdown for the pages of Dagster and MLflow, with text from logs escaped.

A title `![](http://…)` would otherwise make the viewer's browser fetch that address.
"""

import re
from collections.abc import Iterable, Sequence

_INLINE = re.compile(r"[\\`*\[\]<|~&]|(?<!\w)_|_(?!\w)")
_LEADING = re.compile(r"^(\d*)([-+.)](?=\s|$)|-(?=-)|[#>=])")


def literal(text: str) -> str:
    """Escape text so that Markdown displays it verbatim, on one line."""
    return _LEADING.sub(r"\1\\\2", _INLINE.sub(r"\\\g<0>", " ".join(text.split())))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain texts with a header row."""
    lines = [[*map(literal, line)] for line in (head, *rows)]
    lines.insert(1, ["---"] * len(head))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bullets(lines: Iterable[str]) -> str:
    """A bullet list of plain texts."""
    return "\n".join(f"- {literal(line)}" for line in lines)
