"""How near the candidate's text is to what the user lately took and passed over."""

from collections.abc import Iterator

from features.catalogue.families.feature import Feature
from features.catalogue.term import Term, read
from features.similarity import COLUMNS

_SOURCE = "content profiles (Pazzani & Billsus 2007)"
_MEANINGS = {
    "text_clicked_mean": "mean likeness of the text to what the user lately took",
    "text_clicked_max": "greatest likeness of the text to anything the user lately took",
    "text_clicked_last": "likeness of the text to what the user took last",
    "text_passed_mean": "mean likeness of the text to what the user lately passed over",
    "text_passed_max": "greatest likeness of the text to anything the user lately passed over",
    "text_passed_last": "likeness of the text to what the user passed over last",
}


def text_features() -> Iterator[Feature]:
    """Cosine similarities of frozen text vectors."""
    for name, meaning in _MEANINGS.items():
        yield Feature(name, "text", meaning, _likeness(name), _SOURCE, True)
    taste = _likeness("text_clicked_mean").less(_likeness("text_passed_mean"))
    yield Feature("text_taste", "text", "likeness to what was taken, less likeness to what was passed over",
                  taste, "Rocchio 1971", True)  # fmt: skip


def _likeness(name: str) -> Term:
    return read("text", str(COLUMNS.index(name)))
