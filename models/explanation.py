"""Why an item stands where it stands: the ranker's contributions by family, and the past that interest rests on."""

from pathlib import Path

import polars as pl

from features.moments import PASSED
from models.interest_input import InterestInput

INTEREST = "interest"

_WORDS = {
    "item": "how the item does",
    "attribute": "how its kind does",
    "user": "the user's habits",
    "affinity": "what the user takes and passes of its kind",
    "pair": "whether the user met it before",
    "text": "likeness to what the user took",
    "context": "the moment",
    INTEREST: "what the text says to this user",
}
_OF_TEXT = {INTEREST, "text"}
_LEAST = 0.01
"""Logits: what brought less is not worth a person's time."""
_LONGEST = 60
"""Characters of a title."""


def by_family(contributions: pl.DataFrame, catalogue: pl.DataFrame) -> pl.DataFrame:
    """Contributions (a column a feature, and `bias`) summed to a column a family, greatest spread first.

    `catalogue`: name, family. Columns it does not know are the interest score's. The bias is left out: it is
    the same for every candidate.
    """
    family = dict(catalogue.select("name", "family").iter_rows())
    members: dict[str, list[str]] = {}
    for name in contributions.columns:
        if name != "bias":
            members.setdefault(family.get(name, INTEREST), []).append(name)
    sums = contributions.select(pl.sum_horizontal(names).alias(f) for f, names in members.items())
    spread = sums.select(pl.all().abs().sum()).row(0)
    order = sorted(zip(spread, sums.columns, strict=True), key=lambda part: (-part[0], part[1]))
    return sums.select(name for _, name in order)


def because(
    given: InterestInput, version: Path | None, items: pl.DataFrame, cache: Path, named: int = 2
) -> pl.DataFrame:
    """`impression_id, item_id, because`: the past that raised a candidate's interest score most, in words.

    `items` gives the titles (`item_id, title`). Null where nothing in the user's past spoke for the candidate,
    or there is no interest version yet.
    """
    if version is None:
        return given.keys.with_columns(because=pl.lit(None, pl.String))
    from models.interest.explanation import contributions
    from models.interest.version import InterestModel

    # An item may have been met often: more moments are looked through than are named.
    found = contributions(InterestModel.load(version), given.items, given.moments, 4 * named, cache)
    titles = given.past.join(
        items.select("item_id", "title"), on="item_id", how="left", maintain_order="left"
    )
    phrases = [_phrase(title, action) for title, action in titles.select("title", "action").iter_rows()]
    sentences = []
    for moments, weights in zip(found.moment.tolist(), found.weight.tolist(), strict=True):
        spoke = [phrases[m] for m, weight in zip(moments, weights, strict=True) if weight >= _LEAST]
        distinct = list(dict.fromkeys(phrase for phrase in spoke if phrase))[:named]
        sentences.append(f"because of {', '.join(distinct)}" if distinct else None)
    return given.keys.with_columns(because=pl.Series(sentences, dtype=pl.String))


def _phrase(title: str | None, action: str) -> str | None:
    """How a moment is named; None for an item that nothing is known of."""
    if not title:
        return None
    cut = title if len(title) <= _LONGEST else f"{title[: _LONGEST - 1].rstrip()}…"
    quoted = f"“{cut.replace('“', '‘').replace('”', '’')}”"
    return f"passing over {quoted}" if action == PASSED else quoted


def reasons(families: pl.DataFrame, past: pl.Series | None = None, shown: int = 2) -> pl.Series:
    """For each row, the families that spoke most for the item, in words with their contribution.

    `past`, as `because` gives it, follows where what the text says is among them.
    """
    sentences = []
    told = past if past is not None else [None] * families.height
    for row, sentence in zip(families.iter_rows(named=True), told, strict=True):
        best = sorted(row.items(), key=lambda part: -part[1])[:shown]
        spoke = {name: value for name, value in best if value > 0}
        parts = [f"{_WORDS.get(name, name)} ({value:+.2f})" for name, value in spoke.items()]
        if sentence and spoke.keys() & _OF_TEXT:
            parts.append(sentence)
        sentences.append("; ".join(parts) or "nothing speaks for it")
    return pl.Series("reasons", sentences, dtype=pl.String)
