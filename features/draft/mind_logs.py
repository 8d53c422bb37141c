"""Guess the project file of a MIND log, whose columns are known."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import polars as pl

from features.draft.guesses import Guess
from features.draft.sample import read_head
from features.draft.times import guess_half_lives, guess_times, read_format, span_of
from features.errors import SourceError
from features.sources.files import cut

BEHAVIORS, NEWS = "behaviors.tsv", "news.tsv"
_BLOCKS = 8
"""Blocks of 16 MB per log whose times are read: MIND's logs are not ordered by time."""
_TIME = r"^[^\t]*\t[^\t]*\t([^\t]+)\t"
_TIME_FORMAT = "%m/%d/%Y %I:%M:%S %p"


def guess_mind(folders: Sequence[Path], path: str | tuple[str, ...]) -> list[Guess]:
    """Guess every key for MIND's part folders. `path` is `source.path`."""
    times, complete = _times(folders)
    if not len(times):
        raise SourceError(
            f"{folders[0] / BEHAVIORS} has no time in its third column: expected MIND's behaviors.tsv"
        )
    span = span_of(times, complete, complete)
    return [
        Guess("source.format", "mind", f"{BEHAVIORS} beside {NEWS}"),
        Guess("source.path", path, f"{len(folders)} part folder{'s'[: len(folders) > 1]}"),
        *guess_times(span),
        Guess("labels.gains", {"click": 1.0}, "MIND has clicks only"),
        Guess(
            "labels.attribution", "30m", "a click is dated one second after its impression: any window works"
        ),
        *_fields(folders),
        *guess_half_lives(span),
    ]


def _times(folders: Sequence[Path]) -> tuple[pl.Series, bool]:
    pieces, complete = [], True
    for folder in folders:
        blocks = cut(folder / BEHAVIORS, BEHAVIORS)
        for block in islice(blocks, _BLOCKS):
            lines = pl.Series(block.content.decode(errors="replace").split("\n"))
            pieces.append(read_format(lines.str.extract(_TIME).drop_nulls(), _TIME_FORMAT).drop_nulls())
        complete = complete and next(blocks, None) is None
    return pl.concat(pieces), complete


def _fields(folders: Sequence[Path]) -> list[Guess]:
    """Guess the item fields from those that are filled in."""
    heads = [read_head(path)[0] for folder in folders if (path := folder / NEWS).exists()]
    cells = [line.split("\t") for head in heads for line in head.decode(errors="replace").split("\n")]
    filled = [
        sum(len(row) > column and row[column] not in ("", "[]") for row in cells) for column in range(8)
    ]
    of_sample = f"of {len(cells):,} articles of the sample"
    names = [name for name, columns in (("category", (1,)), ("subcategory", (2,)), ("entities", (6, 7)))
             if any(filled[column] for column in columns)]  # fmt: skip
    body = Guess("items.body", "abstract", f"{filled[4]:,} {of_sample} have an abstract")
    if not filled[4]:
        body = Guess("items.body", "", f"none {of_sample} has an abstract")
    return [
        Guess("items.title", "title", f"{filled[3]:,} {of_sample} have a title"),
        body,
        Guess("items.categorical", tuple(names), "the fields of MIND that are filled in"),
    ]
