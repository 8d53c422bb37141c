"""One plain sentence that says why an item has its rank. It names no feature, and no number except an age.

It names only the families that moved the score, strongest first, and one that moved it the other way if that is at
least half as strong. Families that are the same for the whole impression (user, session) rank no item above another
and are left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl
from polars import selectors as cs

from features.state.histories import SKIPPED
from models.explanation.contributions import INTEREST, by_family

_SAME_IN_A_LIST = ("user", "session")
_AGE = "age"
_QUERY, _EARLIER = "query", "earlier queries"
_MIN_WEIGHT = 0.01
"""Smallest contribution to a rank score that is mentioned."""
_MIN_SECOND = 0.2
"""Smallest share of the first cause at which a second one is mentioned."""
_MIN_OPPOSITE = 0.5
_MAX_TITLE = 60
"""Characters."""
_ORDINALS = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth", "Ninth", "Tenth")

_UNITS = ((24 * 365.25, "year", 24 * 730), (24, "day", 48), (1, "hour", 1))
"""Hours in a unit of age, its name, and the age in hours from which it is used."""

_VERBS = {
    "click": "opened",
    "view": "looked at",
    "like": "liked",
    "comment": "commented on",
    "share": "shared",
    "purchase": "bought",
    "dwell": "spent time with",
    "rating": "rated",
    SKIPPED: "skipped",
}
_CAUSES = {
    "item": ("it is popular right now", "it is less popular than other items"),
    "attribute": (
        "items of its kind are popular right now",
        "items of its kind are less popular than others",
    ),
    "affinity": ("the user often clicks items of its kind", "the user rarely clicks items of its kind"),
    "context": ("it fits the context", "it does not fit the context"),
    "list": ("few items in the list are like it", "many items in the list are like it"),
    "pair": (
        "earlier interactions with this item speak for it",
        "earlier interactions with this item speak against it",
    ),
    _QUERY: ("it fits the query", "it does not fit the query"),
    _EARLIER: ("it was chosen after similar queries", "other items were chosen after similar queries"),
    INTEREST: ("it matches what the user clicks", "it is unlike what the user clicks"),
}
"""Family → the cause when it raises the score, and when it lowers it."""

_ATTRIBUTE_CAUSES = {
    "affinity": ("the user often clicks items marked {}", "the user rarely clicks items marked {}"),
    "attribute": ("items marked {} are popular right now", "items marked {} are less popular than others"),
}
"""The same, naming the attribute value that moved the score most."""


class Cause(NamedTuple):
    """A family and its contribution to an item's rank score."""

    family: str
    weight: float


def sentences(ranked: pl.DataFrame, contributions: pl.DataFrame, catalogue: pl.DataFrame) -> pl.Series:
    """`reasons`: a sentence for each row of `ranked`; `contributions` has the same row order.

    `ranked`: `rank`, `candidates` (how many its impression has), `past` (from `contributions.past_behind`), and
    optionally the item's `attributes`, `item_age_hours`, `pair_exposures`, the query features, `query_words` and
    `earlier_query` (from `query_reasons.behind_query`).
    """
    by_cause = by_family(contributions, _cause_families(catalogue)).drop(*_SAME_IN_A_LIST, strict=False)
    query_features = catalogue.filter(pl.col("name").is_in(ranked.columns), family=_QUERY)["name"].to_list()
    if query_features:
        # A ranker also gives a weight to a missing value, and without a query all of them are missing.
        typed = ranked.select(pl.any_horizontal(pl.col(query_features).is_not_null())).to_series()
        by_cause = by_cause.with_columns(
            pl.when(typed).then(cs.by_name(_QUERY, _EARLIER, require_all=False)).otherwise(0.0)
        )
    attribute_features = catalogue.filter(pl.col("family").is_in([*_ATTRIBUTE_CAUSES]))["name"]
    kinds = contributions.select(name for name in contributions.columns if name in attribute_features)
    kind_rows = kinds.iter_rows(named=True) if kinds.width else ({} for _ in range(ranked.height))
    rows = zip(ranked.iter_rows(named=True), kind_rows, by_cause.iter_rows(named=True), strict=True)
    reasons = [
        _sentence(
            row | {"named": _named_values(row.get("attributes") or (), kind_weights)},
            [Cause(family, weight) for family, weight in weights.items() if abs(weight) >= _MIN_WEIGHT],
        )
        for row, kind_weights, weights in rows
    ]
    return pl.Series("reasons", reasons, dtype=pl.String)


def because_of(row: Mapping[str, Any]) -> str | None:
    """`because of “A”, skipping “B”`: the past behind an interest score, and what speaks for it in the query.

    `row`: `past`, and optionally `query_words` and `earlier_query`. None if all are empty.
    """
    parts = [
        f"skipping {quote(moment['title'])}" if moment["action"] == SKIPPED else quote(moment["title"])
        for moment in row["past"] or ()
    ]
    if earlier := row.get("earlier_query"):
        parts.insert(0, f"the earlier query {quote(earlier)}")
    if words := row.get("query_words"):
        parts.insert(0, f"the words {', '.join(map(quote, words))}")
    return f"because of {', '.join(parts)}" if parts else None


def quote(title: str) -> str:
    """A title in quotation marks, shortened to 60 characters."""
    short = title if len(title) <= _MAX_TITLE else f"{title[: _MAX_TITLE - 1].rstrip()}…"
    return f"“{short.replace('“', '‘').replace('”', '’')}”"


def _cause_families(catalogue: pl.DataFrame) -> pl.DataFrame:
    """The catalogue with age and earlier queries as families, and text features in the interest score's."""
    name, family = pl.col("name"), pl.col("family")
    return catalogue.select(
        "name",
        family=pl.when(name.str.starts_with("item_age_hours"))
        .then(pl.lit(_AGE))
        .when(name.str.contains("^query_(past|ctr|clicks)"))
        .then(pl.lit(_EARLIER))
        .otherwise(pl.when(family == "text").then(pl.lit(INTEREST)).otherwise(family)),
    )


def _named_values(
    attributes: Sequence[Mapping[str, str]], weights: Mapping[str, float]
) -> dict[tuple[str, bool], str]:
    """(family, whether it raises the score) → the item's attribute value that moved it most in that direction."""
    largest: dict[tuple[str, bool], tuple[float, str]] = {}
    for family, entity in (("affinity", "user"), ("attribute", "item")):
        for attribute in attributes:
            prefix = f"{entity}_{attribute['name']}_"
            weight = sum(value for name, value in weights.items() if name.startswith(prefix))
            key = (family, weight > 0)
            if abs(weight) >= _MIN_WEIGHT and abs(weight) > largest.get(key, (0.0, ""))[0]:
                largest[key] = (abs(weight), attribute["value"])
    return {key: value for key, (_, value) in largest.items()}


def _sentence(row: Mapping[str, Any], causes: Sequence[Cause]) -> str:
    ordinal = _ordinal(row["rank"])
    raising = sorted((cause for cause in causes if cause.weight > 0), key=lambda cause: -cause.weight)
    lowering = sorted((cause for cause in causes if cause.weight < 0), key=lambda cause: cause.weight)
    ahead = row["rank"] <= row["candidates"] / 2 or sum(cause.weight for cause in causes) > 0
    main, opposite = (raising, lowering) if (ahead and raising) or not lowering else (lowering, raising)
    if not main:
        return f"{ordinal}: nothing known speaks for or against it."
    strong = [cause for cause in main[:2] if abs(cause.weight) >= _MIN_SECOND * abs(main[0].weight)]
    text = f"{ordinal} because {', and because '.join(_words(cause, row) for cause in strong)}"
    if opposite and abs(opposite[0].weight) >= _MIN_OPPOSITE * abs(main[0].weight):
        text += f", although {_words(opposite[0], row)}"
    return f"{text}."


def _ordinal(rank: int) -> str:
    if rank <= len(_ORDINALS):
        return _ORDINALS[rank - 1]
    ending = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{ending}"


def _words(cause: Cause, row: Mapping[str, Any]) -> str:
    raises = cause.weight > 0
    direction = 0 if raises else 1
    if raises and (quoted := _quoted(cause.family, row)):
        return quoted
    if cause.family == _AGE and (hours := row.get("item_age_hours")) is not None:
        return f"it is {_age(hours)} old"
    if cause.family == "pair" and (exposures := row.get("pair_exposures")) is not None:
        return f"the user has {'' if exposures else 'not '}been shown it before"
    if value := row["named"].get((cause.family, raises)):
        return _ATTRIBUTE_CAUSES[cause.family][direction].format(quote(value))
    if cause.family in _CAUSES:
        return _CAUSES[cause.family][direction]
    return f"its {cause.family} speaks {'for' if raises else 'against'} it"


def _quoted(family: str, row: Mapping[str, Any]) -> str | None:
    """A cause that quotes the user's past, the query or an earlier query."""
    if family == INTEREST and row["past"]:
        moment = row["past"][0]
        return (
            f"it suits a user who {_VERBS.get(moment['action'], 'interacted with')} {quote(moment['title'])}"
        )
    if family == _QUERY and (words := row.get("query_words")):
        return f"it has the query's {', '.join(map(quote, words))}"
    if family == _EARLIER and (earlier := row.get("earlier_query")):
        return f"it was chosen after {quote(earlier)}"
    return None


def _age(hours: float) -> str:
    """An age in words: `3 days`, `less than an hour`."""
    if hours < 1:
        return "less than an hour"
    size, unit = next((size, unit) for size, unit, since in _UNITS if hours >= since)
    count = int(hours / size)
    return f"{count:,} {unit}{'s' if count > 1 else ''}"
