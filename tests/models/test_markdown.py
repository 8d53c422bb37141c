"""Text from logs stays text on a Markdown page."""

import pytest
from markdown_it import MarkdownIt

from models.markdown import bullets, literal, table

HOSTILE = [
    "![p](http://example.org/p.png)",
    "[a](javascript:alert(1))",
    "<img src=http://example.org/p.png>",
    "<http://example.org>",
    "a | b",
    "# heading",
    "`code` *strong* _soft_ ~~gone~~",
    "a\\",
    "&lt;b&gt;",
    "line\nline",
    "> quoted",
    "- item",
    "1. first",
    "---",
    "_soft_ item_ctr_1d",
]


def _texts(page: str) -> list[str]:
    """Texts of the cells and list items of a page; fails on any other markup."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(page)
    inline = [child for token in tokens for child in token.children or ()]
    assert {child.type for child in inline} <= {"text", "text_special"}
    return [
        "".join(child.content for child in token.children or ()) for token in tokens if token.type == "inline"
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_displayed_verbatim(text: str) -> None:
    one_line = " ".join(text.split())
    assert _texts(table(["title", text], [[text, "1"]])) == ["title", one_line, one_line, "1"]
    assert _texts(bullets([text])) == [one_line]
    assert literal("0.12 item_ctr_1d, 1.5 (a)") == "0.12 item_ctr_1d, 1.5 (a)"
