"""The terminal of the command line: what comes from logs stays text there too."""

import io
import os
import re
from typing import Any

from rich.console import Console
from rich.text import Text

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Terminal(Console):
    """Prints every text as it is: no markup, no emoji codes, and control characters as visible ones."""

    def __init__(self, **options: Any) -> None:
        """`options` are those of `rich.console.Console`."""
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """The text without control characters; every string that is printed comes through here."""
        return super().render_str(visible(text), **options)


def direct(out: Terminal) -> Terminal:
    """A terminal on what `out` prints to now: while a step runs, Dagster sends standard output to a file."""
    try:
        return Terminal(file=os.fdopen(os.dup(out.file.fileno()), "w", encoding="utf-8"))
    except io.UnsupportedOperation:  # no file of the system: nothing is sent elsewhere
        return out


def styled(*parts: tuple[str, str]) -> Text:
    """A line of (text, style) parts."""
    return Text.assemble(*((visible(text), style) for text, style in parts))


def visible(text: str) -> str:
    """Text with a picture in place of each control character but tabs and line ends: ESC becomes ␛."""
    return _CONTROL.sub(lambda found: _picture(ord(found[0])), text)


def _picture(code: int) -> str:
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "�"
