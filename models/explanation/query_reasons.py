"""What speaks for a candidate in the words of its impression's query, and in earlier queries."""

import re

import polars as pl

from features.config.sections import Context
from features.queries import query_of, query_vectors
from models.interest_input import text_of

WORDS = 3
"""Words that are shown, the rarest among the catalogue's items first."""
_MIN_SIMILARITY = 0.4
"""Cosine below which an earlier query is not shown."""


def behind_query(
    impressions: pl.DataFrame,
    clicks: pl.DataFrame,
    items: pl.DataFrame,
    vectors: pl.DataFrame,
    context: Context,
) -> pl.DataFrame:
    """`impression_id, item_id, query_words, earlier_query`; null where there are none.

    `query_words`: words that the query shares with the candidate's text. `earlier_query`: the most similar query that
    led to a click on it before, of `clicks` (`MomentState.query_clicks`). `vectors` have the queries.
    """
    texts = {
        item: _words(text_of(title, body))
        for item, title, body in items.select("item_id", "title", "body").iter_rows()
    }
    typed = impressions.select("impression_id", "shown_at", "candidates").with_columns(
        query_of(impressions, context)
    )
    rows = []
    for impression, shown_at, candidates, query in typed.iter_rows():
        words = _words(query or "")
        rarity = {word: sum(word in text for text in texts.values()) for word in words}
        earlier = _most_similar(query, clicks.filter(pl.col("known_at") < shown_at), vectors)
        for candidate in candidates:
            item = candidate["item_id"]
            shared = sorted(words & texts.get(item, set()), key=lambda word: (rarity[word], word))
            rows.append((impression, item, shared[:WORDS] or None, earlier.get(item)))
    names = ("impression_id", "item_id", "query_words", "earlier_query")
    schema = {name: pl.List(pl.String) if name == "query_words" else pl.String() for name in names}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _words(text: str) -> set[str]:
    """Words of a text, and pairs of characters where a script has no spaces between them."""
    words: set[str] = set()
    for word in re.findall(r"\w+", text.lower()):
        unspaced = "\u3040" <= word[0] <= "\u9fff"
        words |= {word[n : n + 2] for n in range(len(word) - 1)} if unspaced and len(word) > 2 else {word}
    return {word for word in words if len(word) > 1}


def _most_similar(query: str | None, clicks: pl.DataFrame, vectors: pl.DataFrame) -> dict[str, str]:
    """Item → the most similar query that led to a click on it."""
    if query is None or clicks.is_empty():
        return {}
    texts = pl.concat([pl.Series("query", [query]), clicks["query"]])
    rows = query_vectors(texts, vectors).astype(float)
    lengths = (rows**2).sum(axis=1).clip(1.0) ** 0.5
    near = clicks.with_columns(near=pl.Series(rows[1:] @ rows[0] / (lengths[1:] * lengths[0])))
    best = near.filter(pl.col("near") >= _MIN_SIMILARITY).sort("near", "known_at").group_by("item_id").last()
    return dict(best.select("item_id", "query").iter_rows())
