"""Fit of the candidate to the query, by its text and by what was clicked after similar queries."""

from collections.abc import Iterator

from features.catalogue.term import Feature, Term, read, term
from features.config.sections import BehaviourConfig
from features.queries import COLUMNS
from features.similarity import COLUMNS as BEFORE
from features.state.counters import FIRST_RATE

_NEIGHBOURS = "nearest neighbours in FAQ retrieval (Karan & Šnajder 2018)"


def query_features(config: BehaviourConfig) -> Iterator[Feature]:
    """Similarities to the query and to earlier queries, clicks after this very query, its length."""
    if not config.context.query:
        return
    yield Feature("query_match", "query", "similarity of the item's text to the query", _column("match"),
                  "dense retrieval (Karpukhin et al. 2020)", True)  # fmt: skip
    yield Feature("query_past_max", "query", "greatest similarity of the query to one that led to a click on the item",
                  _column("past_max"), _NEIGHBOURS, True)  # fmt: skip
    yield Feature("query_past_share", "query", "share of the clicks after the ten nearest earlier queries",
                  _column("past_share"), _NEIGHBOURS, True)  # fmt: skip
    strength, clicks = config.features.prior_strength * FIRST_RATE, _column("clicks")
    prior = term(1.0) / read("list", "size")
    rate = (_column("item_clicks") + prior * strength) / (clicks + strength)
    yield Feature("query_ctr", "query", "smoothed share of the clicks after this very query that were on the item",
                  rate, "", True)  # fmt: skip
    yield Feature("query_clicks", "query", "clicks after this very query", clicks)
    yield Feature("query_length", "query", "length of the query in characters", _column("length"))


def _column(name: str) -> Term:
    return read("text", str(len(BEFORE) + COLUMNS.index(name)))
