"""HTML of the report's parts: sections, pictures, tables, and formatted values."""

import base64
import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

WIDE, HALF, NARROW = 7.6, 4.4, 3.7
"""Plot widths in inches for a full column, half a column and a phone; text keeps its size."""

_LONG_TEXT = 60
"""Characters; a column with longer texts is drawn wide."""


def section(name: str, title: str, intro: str, *parts: str) -> str:
    """A section of the page, reachable as `#name`."""
    return (
        f'<section id="{text(name)}"><h2>{text(title)}</h2><p class="intro">{text(intro)}</p>'
        f"{''.join(parts)}</section>"
    )


def empty(reason: str) -> str:
    """A placeholder that says why there is nothing to show."""
    return f'<p class="empty">{text(reason)}</p>'


def picture(draw: Callable[..., bytes], rows: pl.DataFrame, description: str, wide: float = WIDE) -> str:
    """A plot in two widths; the browser picks the one that fits. `description` is the alternative text."""
    full, phone = (base64.b64encode(draw(rows, width=width)).decode() for width in (wide, NARROW))
    return (
        f'<picture><source media="(max-width: 600px)" srcset="data:image/png;base64,{phone}">'
        f'<img src="data:image/png;base64,{full}" alt="{text(description)}"></picture>'
    )


def table(rows: pl.DataFrame, caption: str, names: Mapping[str, str] | None = None) -> str:
    """A table whose first column is the row header: numbers right-aligned, nulls as dashes.

    `names`: column → heading; by default the column's name with spaces.
    """
    headings = [(names or {}).get(name) or name.replace("_", " ").capitalize() for name in rows.columns]
    cells = (("", cell(first), [*map(cell, others)]) for first, *others in rows.iter_rows())
    return _table(caption, headings, [_kind(column) for column in rows.iter_columns()], cells)


def _kind(column: pl.Series) -> str:
    """The CSS class of a column's cells: numbers, long texts (wide on a phone too), or neither."""
    if column.dtype.is_numeric():
        return "number"
    longest = column.str.len_chars().max() if column.dtype == pl.String else 0
    return "words" if isinstance(longest, int) and longest > _LONG_TEXT else ""


def grid(
    corner: str, columns: Sequence[str], rows: Sequence[tuple[str, str, Sequence[str]]], caption: str
) -> str:
    """A table of numbers; a row is its key, its heading, and its cells as HTML."""
    cells = ((key, text(name), figures) for key, name, figures in rows)
    return _table(caption, [corner, *columns], ["", *["number"] * len(columns)], cells)


def meanings(entries: Iterable[tuple[str, str]]) -> str:
    """A list of terms (HTML) and what they mean (text)."""
    rows = "".join(f"<div><dt>{term}</dt><dd>{text(meaning)}</dd></div>" for term, meaning in entries)
    return f'<dl class="meanings">{rows}</dl>'


def folded(title: str, content: str) -> str:
    """Collapsible content under a title."""
    return f"<details><summary>{text(title)}</summary>{content}</details>"


def _table(
    caption: str,
    headings: Sequence[str],
    classes: Sequence[str],
    rows: Iterable[tuple[str, str, Sequence[str]]],
) -> str:
    """A table; `classes`: the CSS class of each column; a row is its key, its heading, and its cells as HTML."""
    head = "".join(
        f'<th scope="col" class="{kind}">{text(name)}</th>'
        for kind, name in zip(classes, headings, strict=True)
    )
    body = "".join(
        f'<tr class="{"strong" if key == "full" else ""}"><th scope="row" class="{classes[0]}">{heading}</th>'
        + "".join(f'<td class="{kind}">{part}</td>' for kind, part in zip(classes[1:], cells, strict=True))
        + "</tr>"
        for key, heading, cells in rows
    )
    # Focusable, so that a wide table can be scrolled by keyboard.
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def estimate(row: Mapping[str, Any] | None, signed: bool = False) -> str:
    """A mean with its confidence interval below; a dash for null."""
    if row is None or row["mean"] is None:
        return "–"
    return f"{row['mean']:{'+' if signed else ''}.3f}<small>{interval(row, signed)}</small>"


def interval(row: Mapping[str, Any], signed: bool = False) -> str:
    """`0.598 to 0.642`; "no interval" for null."""
    if row["low"] is None:
        return "no interval"
    form = "+.3f" if signed else ".3f"
    return f"{row['low']:{form}} to {row['high']:{form}}"


def cell(value: object) -> str:
    """A value formatted for reading, escaped."""
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
    """Text escaped for HTML."""
    return html.escape(value, quote=True)
