"""Text from logs is printed literally and cannot control the terminal."""

import os
from io import StringIO
from pathlib import Path

import polars as pl
import pytest

from pipelines.cli import console
from pipelines.terminal import Terminal, direct, styled

HOSTILE = ["[/b]", "[bold]", "[link=http://example.org]x[/link]", ":smile:", "\\[", "ends in \\"]
CONTROLS = "\x1b\x07\x9b\x7f\r"
CONTROL = {"\x1b[31mred": "␛[31mred", "\x1b]0;title\x07": "␛]0;title␇", "\x9b2J": "�2J", "a\x7f\r": "a␡␍"}


def shown(text: str) -> str:
    """The output for a list whose user, title and reason are this text."""
    row = {"rank": 1, "title": text, "rank_score": 1.0, "click_probability": 0.5, "interest_score": None}
    page = StringIO()
    console.ranked(Terminal(file=page, width=200), pl.DataFrame([{**row, "reasons": text}]), text)
    return page.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_is_text(text: str) -> None:
    assert shown(text).count(text) == 3


@pytest.mark.parametrize(("text", "visible"), CONTROL.items())
def test_control_characters_are_visible_and_have_no_effect(text: str, visible: str) -> None:
    page = StringIO()
    Terminal(file=page, width=200).print(text, styled((text, "bold")))
    output = shown(text) + page.getvalue()
    assert output.count(visible) == 5
    assert not any(character in output for character in CONTROLS)


def test_a_direct_terminal_ignores_later_redirection(tmp_path: Path) -> None:
    with (tmp_path / "screen").open("w") as screen, (tmp_path / "captured").open("w") as captured:
        out = direct(Terminal(file=screen))
        os.dup2(captured.fileno(), screen.fileno())
        out.print("a line")

    assert (tmp_path / "screen").read_text(encoding="utf-8") == "a line\n"
