"""One plain sentence that says why an item stands where it stands. It names no feature and no figure but an age.

What a sentence says is what the score says: only families that moved it are named, the strongest first, and what
spoke against the item where that is at least half as strong. What is the same for a whole list (who the user is,
how the visit goes) sets no item above another and is not named.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from features.state.histories import SKIPPED
from models.explanation.contributions import INTEREST, by_family

_SAME_IN_A_LIST = ("user", "session")
_AGE = "age"
_LEAST = 0.01
"""Contribution to a rank score below which nothing is said."""
_SECOND = 0.2
"""A second cause is told if it is at least this share of the first."""
_AGAINST = 0.5
_LONGEST = 60
"""Characters of a title."""
_ORDINALS = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth", "Ninth", "Tenth")

_UNITS = ((24 * 365.25, "year", 24 * 730), (24, "day", 48), (1, "hour", 1))
"""Hours of a unit of age, its name, and the hours from which on it is used."""

_VERBS = {
    "click": "opened",
    "view": "looked at",
    "like": "liked",
    "comment": "commented on",
    "share": "shared",
    "purchase": "bought",
    "dwell": "spent time with",
    "rating": "rated",
    SKIPPED: "passed over",
}
_WORDS = {
    "item": ("it is doing well with everybody", "it is doing less well than others"),
    "attribute": ("its kind is doing well with everybody", "its kind is doing less well than others"),
    "affinity": ("the user often takes items of its kind", "the user seldom takes items of its kind"),
    "context": ("it suits the occasion", "it does not suit the occasion"),
    "list": ("little else in the list is like it", "much else in the list is like it"),
    "pair": (
        "what was between the user and it speaks for it",
        "what was between the user and it speaks against it",
    ),
    INTEREST: ("it suits what the user takes", "it is unlike what the user takes"),
}
"""Family → what it says for an item, and what it says against it."""

_MARKED = {
    "affinity": ("the user often takes {}", "the user seldom takes {}"),
    "attribute": ("{} are doing well with everybody", "{} are doing less well than others"),
}
"""The same where it is known which of the item's attributes it is about."""


class Voice(NamedTuple):
    """What one family says of an item."""

    family: str
    weight: float


def sentences(listed: pl.DataFrame, contributions: pl.DataFrame, catalogue: pl.DataFrame) -> pl.Series:
    """`reasons`: a sentence for each row of `listed`, whose contributions are given row for row.

    `listed`: `rank`, `candidates` (how many the list was ordered of), `past` as `explanation.past_behind` gives
    it, and, where they are there, the item's `attributes`, `item_age_hours` and `pair_exposures`.
    """
    voices = by_family(contributions, _voices(catalogue)).drop(*_SAME_IN_A_LIST, strict=False)
    about_kinds = catalogue.filter(pl.col("family").is_in([*_MARKED]))["name"]
    kinds = contributions.select(name for name in contributions.columns if name in about_kinds)
    moved_by = kinds.iter_rows(named=True) if kinds.width else ({} for _ in range(listed.height))
    rows = zip(listed.iter_rows(named=True), moved_by, voices.iter_rows(named=True), strict=True)
    told = [
        _sentence(
            row | {"marks": _marks(row.get("attributes") or (), moved)},
            [Voice(family, weight) for family, weight in weights.items() if abs(weight) >= _LEAST],
        )
        for row, moved, weights in rows
    ]
    return pl.Series("reasons", told, dtype=pl.String)


def because_of(past: Sequence[Mapping[str, str]] | None) -> str | None:
    """`because of “A”, passing over “B”`: the past behind an interest score; None where nothing is."""
    if not past:
        return None
    quoted = (
        f"passing over {quote(moment['title'])}" if moment["action"] == SKIPPED else quote(moment["title"])
        for moment in past
    )
    return f"because of {', '.join(quoted)}"


def quote(title: str) -> str:
    """A title in quotation marks, cut where it is long."""
    cut = title if len(title) <= _LONGEST else f"{title[: _LONGEST - 1].rstrip()}…"
    return f"“{cut.replace('“', '‘').replace('”', '’')}”"


def _voices(catalogue: pl.DataFrame) -> pl.DataFrame:
    """The catalogue with age as a voice of its own, and every text with the interest score's."""
    name, family = pl.col("name"), pl.col("family")
    return catalogue.select(
        "name",
        family=pl.when(name.str.starts_with("item_age_hours"))
        .then(pl.lit(_AGE))
        .otherwise(pl.when(family == "text").then(pl.lit(INTEREST)).otherwise(family)),
    )


def _marks(
    attributes: Sequence[Mapping[str, str]], moved: Mapping[str, float]
) -> dict[tuple[str, bool], str]:
    """(family, whether it speaks for the item) → the item's value of the attribute that moved it most that way."""
    found: dict[tuple[str, bool], tuple[float, str]] = {}
    for family, grain in (("affinity", "user"), ("attribute", "item")):
        for attribute in attributes:
            start = f"{grain}_{attribute['name']}_"
            weight = sum(value for name, value in moved.items() if name.startswith(start))
            key = (family, weight > 0)
            if abs(weight) >= _LEAST and abs(weight) > found.get(key, (0.0, ""))[0]:
                found[key] = (abs(weight), attribute["value"])
    return {key: value for key, (_, value) in found.items()}


def _sentence(row: Mapping[str, Any], voices: Sequence[Voice]) -> str:
    place = _ordinal(row["rank"])
    speak = sorted((v for v in voices if v.weight > 0), key=lambda voice: -voice.weight)
    against = sorted((v for v in voices if v.weight < 0), key=lambda voice: voice.weight)
    ahead = row["rank"] <= row["candidates"] / 2 or sum(v.weight for v in voices) > 0
    first, other = (speak, against) if (ahead and speak) or not against else (against, speak)
    if not first:
        return f"{place}: nothing that is known speaks for it or against it."
    causes = [v for v in first[:2] if abs(v.weight) >= _SECOND * abs(first[0].weight)]
    text = f"{place} because {', and because '.join(_say(v, row) for v in causes)}"
    if other and abs(other[0].weight) >= _AGAINST * abs(first[0].weight):
        text += f", although {_say(other[0], row)}"
    return f"{text}."


def _ordinal(rank: int) -> str:
    if rank <= len(_ORDINALS):
        return _ORDINALS[rank - 1]
    ending = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{ending}"


def _say(voice: Voice, row: Mapping[str, Any]) -> str:
    speaks = voice.weight > 0
    if voice.family == INTEREST and speaks and row["past"]:
        moment = row["past"][0]
        return f"it suits a user who {_VERBS.get(moment['action'], 'took')} {quote(moment['title'])}"
    if voice.family == _AGE and (hours := row.get("item_age_hours")) is not None:
        return f"it is {_age(hours)} old"
    if voice.family == "pair" and (times := row.get("pair_exposures")) is not None:
        return f"the user was {'' if times else 'not '}shown it before"
    if mark := row["marks"].get((voice.family, speaks)):
        marked, place = f"items marked {quote(mark)}", 0 if speaks else 1
        return _MARKED[voice.family][place].format(marked)
    known = _WORDS.get(voice.family)
    if known is None:
        return f"its {voice.family} speaks {'for' if speaks else 'against'} it"
    return known[0] if speaks else known[1]


def _age(hours: float) -> str:
    """An age as a person says it."""
    if hours < 1:
        return "less than an hour"
    size, unit = next((size, unit) for size, unit, least in _UNITS if hours >= least)
    count = int(hours / size)
    return f"{count:,} {unit}{'s' if count > 1 else ''}"
