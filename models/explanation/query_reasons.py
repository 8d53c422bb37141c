"""What speaks for a candidate in the words of its impression's query, and in earlier queries."""

import unicodedata
from functools import lru_cache
from itertools import groupby, pairwise

import polars as pl

from features.config.sections import Context
from features.queries import query_of, query_vectors
from models.interest_input import text_of

WORDS = 3
"""Words that are shown, the rarest among the catalogue's items first."""
_MIN_SIMILARITY = 0.4
"""Cosine below which an earlier query is not shown."""
_UNSPACED = (
    range(0x0E00, 0x0F00), range(0x1000, 0x10A0), range(0x1780, 0x1800), range(0x3040, 0x3100), range(0x3400, 0xA000),
    range(0x20000, 0x40000),
)  # fmt: skip
"""Scripts without spaces: Thai and Lao, Burmese, Khmer, Japanese syllables, Chinese."""


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
        item: {part for word in _words(text_of(title, body)) for part in word}
        for item, title, body in items.select("item_id", "title", "body").iter_rows()
    }
    typed = impressions.select("impression_id", "shown_at", "candidates").with_columns(
        query_of(impressions, context)
    )
    rows = []
    for impression, shown_at, candidates, query in typed.iter_rows():
        words = _words(query or "")
        rarity = {part: sum(part in text for text in texts.values()) for word in words for part in word}
        earlier = _most_similar(query, clicks.filter(pl.col("known_at") < shown_at), vectors)
        for candidate in candidates:
            item = candidate["item_id"]
            shared = _shared(words, texts.get(item, set()))
            ordered = sorted(shared, key=lambda word: (min(rarity[part] for part in word), word))
            # The parts of a run overlap by a character.
            written = [word[0] + "".join(part[-1] for part in word[1:]) for word in ordered[:WORDS]]
            rows.append((impression, item, written or None, earlier.get(item)))
    names = ("impression_id", "item_id", "query_words", "earlier_query")
    schema = {name: pl.List(pl.String) if name == "query_words" else pl.String() for name in names}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _words(text: str) -> set[tuple[str, ...]]:
    """Words of a text; where a script has no spaces, runs of it, each as its pairs of characters."""
    words: set[tuple[str, ...]] = set()
    for script, characters in groupby(unicodedata.normalize("NFKC", text).lower(), _script):
        run = "".join(characters)
        if script == "unspaced":
            words.add(tuple(map("".join, pairwise(run))))
        elif script and len(run) > 1:
            words.add((run,))
    return words - {()}


@lru_cache(1 << 16)
def _script(character: str) -> str:
    """`unspaced`, `spaced`, or empty for what is no part of a word."""
    if any(ord(character) in block for block in _UNSPACED):
        return "unspaced"
    # Vowel signs, as in Hindi, are marks.
    is_part = character.isalnum() or unicodedata.category(character).startswith("M")
    return "spaced" if is_part else ""


def _shared(words: set[tuple[str, ...]], parts: set[str]) -> set[tuple[str, ...]]:
    """The words, and the longest pieces of runs, whose parts are all among `parts`."""
    pieces = (groupby(word, parts.__contains__) for word in words)
    return {tuple(piece) for groups in pieces for is_shared, piece in groups if is_shared}


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
