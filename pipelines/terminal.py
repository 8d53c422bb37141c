"""The command line's terminal. Text from logs is never interpreted as markup or control codes."""

import io
import os
import re
from typing import Any

from rich.console import Console
from rich.text import Text

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Terminal(Console):
    """Prints text literally: no markup, no emoji codes, control characters made visible."""

    def __init__(self, **options: Any) -> None:
        """`options`: see `rich.console.Console`."""
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Escape control characters; every printed string passes through here."""
        return super().render_str(visible(text), **options)


def direct(out: Terminal) -> Terminal:
    """A copy of `out` on its current file descriptor: during a step, Dagster redirects standard output to a file."""
    try:
        return Terminal(file=os.fdopen(os.dup(out.file.fileno()), "w", encoding="utf-8"))
    except io.UnsupportedOperation:  # not a real file: nothing is redirected
        return out


def styled(*parts: tuple[str, str]) -> Text:
    """A line of (text, style) parts."""
    return Text.assemble(*((visible(text), style) for text, style in parts))


def visible(text: str) -> str:
    """Replace control characters, except tabs and newlines, with symbols: ESC becomes ␛."""
    return _CONTROL.sub(lambda match: _symbol(ord(match[0])), text)


def _symbol(code: int) -> str:
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "�"
