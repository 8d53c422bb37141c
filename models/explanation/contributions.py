"""Why an item stands where it stands: contributions by family, the strongest features, and the past behind interest.

A ranker's contributions and its bias sum to the rank score, and so do the families and the bias: what is told
here leaves nothing out. `models/explanation/sentences.py` says it in words.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from models.interest_input import InterestInput

INTEREST = "interest"
"""Family of the interest score and its list-relative form."""
BIAS = "bias"
"""Where every score starts: the same for every candidate."""

PAST = pl.List(pl.Struct({"title": pl.String(), "action": pl.String()}))
_STRONGEST = pl.List(pl.Struct({"feature": pl.String(), "value": pl.Float64(), "contribution": pl.Float64()}))
_LEAST = 0.01
"""Logits: what brought less is not worth a person's time."""


def by_family(contributions: pl.DataFrame, catalogue: pl.DataFrame) -> pl.DataFrame:
    """Contributions (a column a feature, and `bias`) summed to a column a family, greatest spread first.

    `catalogue`: name, family. Columns it does not know are the interest score's. With the bias, which is left
    out, a row's families sum to its rank score.
    """
    family = dict(catalogue.select("name", "family").iter_rows())
    members: dict[str, list[str]] = {}
    for name in contributions.columns:
        if name != BIAS:
            members.setdefault(family.get(name, INTEREST), []).append(name)
    sums = contributions.select(pl.sum_horizontal(names).alias(f) for f, names in members.items())
    spread = sums.select(pl.all().abs().sum()).row(0)
    order = sorted(zip(spread, sums.columns, strict=True), key=lambda part: (-part[0], part[1]))
    return sums.select(name for _, name in order)


def strongest(contributions: pl.DataFrame, values: pl.DataFrame, count: int = 3) -> pl.Series:
    """The features that moved each row's score most, either way, greatest first, with their values there.

    `values` holds the features, row for row. What moved nothing is not named.
    """
    names = [name for name in contributions.columns if name != BIAS]
    moved = contributions.select(names).to_numpy()
    best = np.argsort(-np.abs(moved), axis=1, kind="stable")[:, :count]
    found = [
        [
            {"feature": names[place], "value": values[names[place]][row], "contribution": float(moved[row, place])}
            for place in places
            if moved[row, place]
        ]
        for row, places in enumerate(best.tolist())
    ]  # fmt: skip
    return pl.Series("strongest", found, dtype=_STRONGEST)


def past_behind(
    given: InterestInput, version: Path | None, items: pl.DataFrame, cache: Path, named: int = 2
) -> pl.DataFrame:
    """`impression_id, item_id, past`: the moments that raised a candidate's interest score most, greatest first.

    A moment is `title` and `action`; an item is named once, items without a title never. `items` gives the
    titles (`item_id, title`). Null where nothing in the user's past spoke for the candidate, or there is no
    interest version yet.
    """
    if version is None:
        return given.keys.with_columns(past=pl.lit(None, PAST))
    from models.interest.explanation import contributions
    from models.interest.version import InterestModel

    # An item may have been met often: more moments are looked through than are named.
    found = contributions(InterestModel.load(version), given.items, given.moments, 4 * named, cache)
    titles = given.past.join(
        items.select("item_id", "title"), on="item_id", how="left", maintain_order="left"
    )
    told = titles.select("title", "action").rows()
    spoke = [
        _distinct([told[m] for m, weight in zip(moments, weights, strict=True) if weight >= _LEAST], named)
        for moments, weights in zip(found.moment.tolist(), found.weight.tolist(), strict=True)
    ]
    return given.keys.with_columns(past=pl.Series(spoke, dtype=PAST))


def _distinct(moments: Sequence[tuple[str | None, str]], named: int) -> list[dict[str, str]] | None:
    actions: dict[str, str] = {}
    for title, action in moments:
        if title:
            actions.setdefault(title, action)
    return [{"title": title, "action": action} for title, action in [*actions.items()][:named]] or None
