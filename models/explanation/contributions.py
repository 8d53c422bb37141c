"""Why an item has its rank: contributions by family, the strongest features, and the past behind its interest score.

A ranker's contributions and its bias sum to the rank score, and so do the families and the bias: nothing is left out.
`models/explanation/sentences.py` turns them into words.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from models.interest_input import InterestInput

if TYPE_CHECKING:
    from models.interest.explanation import Contributions

INTEREST = "interest"
"""Family of the interest score and its list-relative form."""
BIAS = "bias"
"""The score that every candidate starts from."""

PAST = pl.List(pl.Struct({"title": pl.String(), "action": pl.String()}))
_STRONGEST = pl.List(pl.Struct({"feature": pl.String(), "value": pl.Float64(), "contribution": pl.Float64()}))
_MIN_WEIGHT = 0.01
"""Logits: moments that raised the interest score by less are not shown."""


def by_family(contributions: pl.DataFrame, catalogue: pl.DataFrame) -> pl.DataFrame:
    """Sum contributions (one column a feature, and `bias`) by family, in order of total absolute contribution.

    `catalogue`: name, family. Columns missing from it belong to the interest score. The result leaves out the bias:
    a row's families plus its bias sum to its rank score.
    """
    family_of = dict(catalogue.select("name", "family").iter_rows())
    members: dict[str, list[str]] = {}
    for name in contributions.columns:
        if name != BIAS:
            members.setdefault(family_of.get(name, INTEREST), []).append(name)
    sums = contributions.select(pl.sum_horizontal(names).alias(f) for f, names in members.items())
    totals = sums.select(pl.all().abs().sum()).row(0)
    order = sorted(zip(totals, sums.columns, strict=True), key=lambda part: (-part[0], part[1]))
    return sums.select(name for _, name in order)


def strongest(contributions: pl.DataFrame, values: pl.DataFrame, count: int = 3) -> pl.Series:
    """The features with the largest absolute contribution to each row's score, with their values.

    `values` holds the features in the same row order. Features that contribute nothing are left out.
    """
    names = [name for name in contributions.columns if name != BIAS]
    weights = contributions.select(names).to_numpy()
    largest = np.argsort(-np.abs(weights), axis=1, kind="stable")[:, :count]
    features = [
        [
            {"feature": names[c], "value": values[names[c]][row], "contribution": float(weights[row, c])}
            for c in columns
            if weights[row, c]
        ]
        for row, columns in enumerate(largest.tolist())
    ]
    return pl.Series("strongest", features, dtype=_STRONGEST)


def past_behind(
    model_input: InterestInput, version: Path | None, items: pl.DataFrame, cache: Path, count: int = 2
) -> pl.DataFrame:
    """`impression_id, item_id, past`: the moments that raised a candidate's interest score most, strongest first.

    `past` lists at most `count` structs of `title` and `action`. An item occurs once; items without a title never.
    `items` gives the titles (`item_id, title`). Null where nothing in the user's past raised the score, or there is
    no interest version yet.
    """
    if version is None:
        return model_input.keys.with_columns(past=pl.lit(None, PAST))
    from models.interest.explanation import contributions
    from models.interest.version import InterestModel

    # Read more moments than are shown: several may be of the same item.
    raised = contributions(
        InterestModel.load(version), model_input.items, model_input.moments, 4 * count, cache
    )
    titles = items.select("item_id", "title")
    past = model_input.past.join(titles, on="item_id", how="left", maintain_order="left")
    moments = past.select("title", "action").rows()
    return model_input.keys.with_columns(past=titles_behind(raised, moments, count))


def titles_behind(
    raised: "Contributions", moments: Sequence[tuple[str | None, str]], count: int = 2
) -> pl.Series:
    """`past` as in `past_behind`, of each candidate; `moments`: title and action of each moment of the history."""
    shown = [
        _distinct([moments[i] for i, weight in zip(indices, weights, strict=True) if weight >= _MIN_WEIGHT], count)
        for indices, weights in zip(raised.moment.tolist(), raised.weight.tolist(), strict=True)
    ]  # fmt: skip
    return pl.Series("past", shown, dtype=PAST)


def _distinct(moments: Sequence[tuple[str | None, str]], count: int) -> list[dict[str, str]] | None:
    actions: dict[str, str] = {}
    for title, action in moments:
        if title:
            actions.setdefault(title, action)
    return [{"title": title, "action": action} for title, action in [*actions.items()][:count]] or None
