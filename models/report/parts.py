"""What the report page is put together from: sections, pictures, tables, and values as a person reads them."""

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

WIDE, HALF, NARROW = 7.6, 4.4, 3.7
"""Inches a plot is drawn for a full column, half of one, and a phone, so that its letters keep their size."""

_LONG = 60
"""Characters beyond which a table's text wants a wide column."""


def section(name: str, title: str, intro: str, *parts: str) -> str:
    """A part of the page, which `#name` leads to."""
    return (
        f'<section id="{text(name)}"><h2>{text(title)}</h2><p class="intro">{text(intro)}</p>'
        f"{''.join(parts)}</section>"
    )


def empty(why: str) -> str:
    """What stands where nothing can be shown: the reason."""
    return f'<p class="empty">{text(why)}</p>'


def picture(draw: Callable[..., bytes], rows: pl.DataFrame, description: str, wide: float = WIDE) -> str:
    """A plot in two widths, of which the browser shows the one that fits. `description` says what it shows."""
    full, phone = (base64.b64encode(draw(rows, width=width)).decode() for width in (wide, NARROW))
    return (
        f'<picture><source media="(max-width: 600px)" srcset="data:image/png;base64,{phone}">'
        f'<img src="data:image/png;base64,{full}" alt="{text(description)}"></picture>'
    )


def table(rows: pl.DataFrame, caption: str, names: Mapping[str, str] | None = None) -> str:
    """A table as it is, its first column heading the rows: numbers to the right, nulls as dashes.

    `names`: how columns are called, where that is not their name with spaces.
    """
    classes = [_kind(column) for column in rows.iter_columns()]
    called = [(names or {}).get(name) or name.replace("_", " ").capitalize() for name in rows.columns]
    head = "".join(
        f'<th scope="col" class="{kind}">{text(name)}</th>'
        for name, kind in zip(called, classes, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row" class="{classes[0]}">{cell(row[0])}</th>'
        + "".join(
            f'<td class="{kind}">{cell(value)}</td>' for value, kind in zip(row[1:], classes[1:], strict=True)
        )
        + "</tr>"
        for row in rows.iter_rows()
    )
    return _table(caption, head, body)


def _kind(column: pl.Series) -> str:
    """The class of a column's cells: figures, long texts, which need their width on a phone too, or neither."""
    if column.dtype.is_numeric():
        return "number"
    longest = column.str.len_chars().max() if column.dtype == pl.String else 0
    return "words" if isinstance(longest, int) and longest > _LONG else ""


def grid(
    corner: str, columns: Sequence[str], rows: Sequence[tuple[str, str, Sequence[str]]], caption: str
) -> str:
    """A table of figures; a row is its key, its name, and its figures as HTML."""
    head = f'<th scope="col">{text(corner)}</th>' + "".join(
        f'<th scope="col" class="number">{text(column)}</th>' for column in columns
    )
    body = "".join(
        f'<tr class="{"strong" if key == "full" else ""}"><th scope="row">{text(name)}</th>'
        + "".join(f'<td class="number">{figure}</td>' for figure in figures)
        + "</tr>"
        for key, name, figures in rows
    )
    return _table(caption, head, body)


def folded(title: str, content: str) -> str:
    """Content behind a line that opens it."""
    return f"<details><summary>{text(title)}</summary>{content}</details>"


def _table(caption: str, head: str, body: str) -> str:
    # Focusable: a keyboard must be able to scroll what is wider than the page.
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def measure(row: Mapping[str, Any] | None, signed: bool = False) -> str:
    """A mean with its interval below it; a dash where it could not be taken."""
    if row is None or row["mean"] is None:
        return "–"
    form = "+.3f" if signed else ".3f"
    return f"{row['mean']:{form}}<small>{between(row, signed)}</small>"


def between(row: Mapping[str, Any], signed: bool = False) -> str:
    """The ends of an interval."""
    if row["low"] is None:
        return "no interval"
    form = "+.3f" if signed else ".3f"
    return f"{row['low']:{form}} to {row['high']:{form}}"


def cell(value: object) -> str:
    """A value as a person reads it, escaped."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return text(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def text(value: str) -> str:
    """Text that HTML takes literally."""
    return html.escape(value, quote=True)
