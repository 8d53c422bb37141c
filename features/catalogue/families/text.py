"""Similarity of the candidate's text to the texts the user clicked and skipped."""

from collections.abc import Iterator

from features.catalogue.families.feature import Feature
from features.catalogue.term import Term, read
from features.similarity import COLUMNS

_SOURCE = "content profiles (Pazzani & Billsus 2007), centred (Mu & Viswanath 2018)"
_FORMS = {
    "mean": "mean similarity of the text to the items the user {}",
    "max": "greatest similarity of the text to an item the user {}",
    "lse": "soft maximum, log(1 + Σ exp 5·cos), of the text's similarities to the items the user {}",
}


def text_features() -> Iterator[Feature]:
    """Cosine similarities of frozen text vectors, centred on the mean of the texts shown so far."""
    for past in ("clicked", "skipped"):
        for form, meaning in _FORMS.items():
            name = f"text_{past}_{form}"
            yield Feature(name, "text", meaning.format(past), _similarity(name), _SOURCE, True)
    taste = _similarity("text_clicked_mean").less(_similarity("text_skipped_mean"))
    yield Feature("text_taste", "text", "mean similarity to clicked items minus mean similarity to skipped items",
                  taste, "Rocchio 1971", True)  # fmt: skip


def _similarity(name: str) -> Term:
    return read("text", str(COLUMNS.index(name)))
