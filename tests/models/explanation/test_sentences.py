import re

import polars as pl
import pytest

from models.explanation.contributions import PAST
from models.explanation.sentences import because_of, quote, sentences

CATALOGUE = pl.DataFrame(
    {
        "name": [
            "item_ctr_1d",
            "item_age_hours",
            "text_taste",
            "user_clicks_1d",
            "pair_seen",
            "tags_known",
            "spin",
            "user_tags_ctr",
            "user_category_ctr",
            "item_tags_ctr",
            *["query_match", "query_past_max"],
        ],
        "family": [
            "item",
            "item",
            "text",
            "user",
            "pair",
            *["affinity", "novel"],
            *["affinity"] * 2,
            "attribute",
            *["query"] * 2,
        ],
    }
)
RAIN = {"title": "Rain over the bay", "action": "click"}


def sentence_about(
    rank: int = 1, of: int = 10, past: list[dict[str, str]] | None = None, values=None, **moved: float
) -> str:
    """The sentence about one item with these contributions."""
    ranked = pl.DataFrame(
        {"rank": [rank], "candidates": [of], "past": pl.Series([past], dtype=PAST), **(values or {})}
    )
    contributions = pl.DataFrame({**{name: [weight] for name, weight in moved.items()}, "bias": [5.0]})
    (sentence,) = sentences(ranked, contributions, CATALOGUE)
    return sentence


def test_a_sentence_names_the_two_strongest_causes() -> None:
    sentence = sentence_about(past=[RAIN], interest_score=0.8, item_ctr_1d=0.5, tags_known=0.4)

    assert sentence == (
        "First because it suits a user who opened “Rain over the bay”, and because it is popular right now."
    )


def test_text_features_and_the_interest_score_are_one_cause() -> None:
    assert sentence_about(interest_score=0.3, text_taste=0.3, item_ctr_1d=0.5).startswith(
        "First because it matches what the user clicks, and"
    )


def test_the_opposite_cause_is_named_if_it_is_about_as_strong() -> None:
    assert sentence_about(item_ctr_1d=1.0, tags_known=-0.6) == (
        "First because it is popular right now, although the user rarely clicks items of its kind."
    )
    assert sentence_about(item_ctr_1d=1.0, tags_known=-0.4) == "First because it is popular right now."


def test_a_low_ranked_item_is_explained_by_what_lowered_its_score() -> None:
    assert (
        sentence_about(9, item_ctr_1d=-1.0, tags_known=0.1)
        == "Ninth because it is less popular than other items."
    )
    assert sentence_about(1, item_ctr_1d=-1.0, tags_known=0.1) == (
        "First because the user often clicks items of its kind, although it is less popular than other items."
    )


def test_the_attribute_that_moved_the_score_most_is_named() -> None:
    marks = [{"name": "tags", "value": "bay"}, {"name": "category", "value": "sport"}]
    values = {"attributes": [marks]}

    assert sentence_about(values=values, tags_known=0.2, user_tags_ctr=0.1, user_category_ctr=0.7) == (
        "First because the user often clicks items marked “sport”."
    )
    against = sentence_about(9, values=values, user_category_ctr=-0.7)
    assert against == "Ninth because the user rarely clicks items marked “sport”."
    assert "items of its kind" in sentence_about(values=values, tags_known=0.2)
    assert "“bay” are popular right now" in sentence_about(values=values, item_tags_ctr=0.3)


def test_without_a_query_nothing_is_said_about_queries() -> None:
    moved = {"query_match": 0.3, "query_past_max": 0.8, "item_ctr_1d": 0.1}
    missing = pl.Series([None], dtype=pl.Float64)

    without = sentence_about(values={"query_match": missing, "query_past_max": missing}, **moved)
    typed = sentence_about(values={"query_match": [0.5], "query_past_max": missing}, **moved)

    assert without == "First because it is popular right now."
    assert typed == "First because it was chosen after similar queries, and because it fits the query."


def test_features_equal_for_the_whole_list_are_no_cause() -> None:
    assert sentence_about(user_clicks_1d=3.0) == "First: nothing known speaks for or against it."
    assert "popular" in sentence_about(user_clicks_1d=3.0, item_ctr_1d=0.02)


@pytest.mark.parametrize(
    ("hours", "words"),
    [
        (0.5, "less than an hour"),
        (1.2, "1 hour"),
        (30.0, "30 hours"),
        (50.0, "2 days"),
        (24.0 * 3652, "9 years"),
        (24.0 * 729, "729 days"),
    ],
)
def test_ages_are_in_hours_days_or_years(hours: float, words: str) -> None:
    assert (
        sentence_about(values={"item_age_hours": [hours]}, item_age_hours=1.0)
        == f"First because it is {words} old."
    )


def test_an_unknown_age_and_an_unknown_family_have_a_default_text() -> None:
    assert sentence_about(item_age_hours=1.0) == "First because its age speaks for it."
    assert sentence_about(item_age_hours=1.0, spin=-0.9).endswith("although its novel speaks against it.")


def test_known_exposures_of_the_pair_are_named() -> None:
    assert "has not been shown it before" in sentence_about(values={"pair_exposures": [0.0]}, pair_seen=0.4)
    assert "user has been shown it before" in sentence_about(values={"pair_exposures": [2.0]}, pair_seen=0.4)
    assert "earlier interactions with this item speak for it" in sentence_about(pair_seen=0.4)


def test_no_feature_name_occurs_and_the_text_is_one_sentence() -> None:
    for rank in range(1, 12):
        sentence = sentence_about(
            rank, past=[RAIN], interest_score=0.1, item_ctr_1d=-0.2, tags_known=0.3, pair_seen=-0.1
        )
        assert re.fullmatch(r"[A-Z0-9][^_.]*\.", sentence)


@pytest.mark.parametrize(
    ("rank", "word"), [(3, "Third"), (10, "Tenth"), (11, "11th"), (21, "21st"), (112, "112th")]
)
def test_ranks_are_ordinals(rank: int, word: str) -> None:
    assert sentence_about(rank, of=500, item_ctr_1d=1.0).startswith(f"{word} because")


def test_no_rows_have_no_sentences() -> None:
    ranked = pl.DataFrame(schema={"rank": pl.Int32, "candidates": pl.Int64, "past": PAST})

    reasons = sentences(
        ranked, pl.DataFrame(schema={"item_ctr_1d": pl.Float64, "bias": pl.Float64}), CATALOGUE
    )

    assert reasons.name == "reasons"
    assert reasons.to_list() == []


def test_the_past_includes_skipped_items() -> None:
    skipped = {"title": "Snow", "action": "skipped"}

    assert because_of({"past": [RAIN, skipped]}) == "because of “Rain over the bay”, skipping “Snow”"
    words = {"query_words": ["rain"], "earlier_query": "will it rain?"}
    assert (
        because_of({"past": None} | words) == "because of the words “rain”, the earlier query “will it rain?”"
    )
    assert because_of({"past": []}) is None
    assert because_of({"past": None}) is None
    assert "a user who skipped “Snow”" in sentence_about(past=[skipped], interest_score=1.0)


def test_long_titles_are_shortened_and_inner_quotation_marks_become_single() -> None:
    quoted = quote("“A very long headline” about the harbour " * 5)

    assert quoted.startswith("“‘A very long headline’ about")
    assert quoted.endswith("…”")
    assert len(quoted) <= 62
