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
        ],
    }
)
RAIN = {"title": "Rain over the bay", "action": "click"}


def told(
    rank: int = 1, of: int = 10, past: list[dict[str, str]] | None = None, values=None, **moved: float
) -> str:
    """The sentence about one item with these contributions."""
    listed = pl.DataFrame(
        {"rank": [rank], "candidates": [of], "past": pl.Series([past], dtype=PAST), **(values or {})}
    )
    contributions = pl.DataFrame({**{name: [weight] for name, weight in moved.items()}, "bias": [5.0]})
    (sentence,) = sentences(listed, contributions, CATALOGUE)
    return sentence


def test_the_two_strongest_causes_are_told_in_plain_words() -> None:
    found = told(past=[RAIN], interest_score=0.8, item_ctr_1d=0.5, tags_known=0.4)

    assert found == (
        "First because it suits a user who opened “Rain over the bay”, and because it is doing well with everybody."
    )


def test_what_the_texts_say_is_one_voice() -> None:
    assert told(interest_score=0.3, text_taste=0.3, item_ctr_1d=0.5).startswith(
        "First because it suits what the user takes, and"
    )


def test_what_speaks_against_is_told_where_it_is_about_as_strong() -> None:
    assert told(item_ctr_1d=1.0, tags_known=-0.6) == (
        "First because it is doing well with everybody, although the user seldom takes items of its kind."
    )
    assert told(item_ctr_1d=1.0, tags_known=-0.4) == "First because it is doing well with everybody."


def test_an_item_at_the_end_is_told_what_speaks_against_it() -> None:
    assert told(9, item_ctr_1d=-1.0, tags_known=0.1) == "Ninth because it is doing less well than others."
    assert told(1, item_ctr_1d=-1.0, tags_known=0.1) == (
        "First because the user often takes items of its kind, although it is doing less well than others."
    )


def test_a_kind_is_named_by_the_attribute_that_moved_the_score_most() -> None:
    marks = [{"name": "tags", "value": "bay"}, {"name": "category", "value": "sport"}]
    values = {"attributes": [marks]}

    assert told(values=values, tags_known=0.2, user_tags_ctr=0.1, user_category_ctr=0.7) == (
        "First because the user often takes items marked “sport”."
    )
    against = told(9, values=values, user_category_ctr=-0.7)
    assert against == "Ninth because the user seldom takes items marked “sport”."
    assert "items of its kind" in told(values=values, tags_known=0.2)
    assert "“bay” are doing well with everybody" in told(values=values, item_tags_ctr=0.3)


def test_what_is_the_same_for_all_of_a_list_is_no_cause() -> None:
    assert told(user_clicks_1d=3.0) == "First: nothing that is known speaks for it or against it."
    assert "everybody" in told(user_clicks_1d=3.0, item_ctr_1d=0.02)


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
def test_an_age_is_told_in_hours_days_or_years(hours: float, words: str) -> None:
    assert told(values={"item_age_hours": [hours]}, item_age_hours=1.0) == f"First because it is {words} old."


def test_an_age_that_is_not_known_and_a_family_without_words_are_named_all_the_same() -> None:
    assert told(item_age_hours=1.0) == "First because its age speaks for it."
    assert told(item_age_hours=1.0, spin=-0.9).endswith("although its novel speaks against it.")


def test_whether_the_user_was_shown_it_before_is_a_fact() -> None:
    assert "was not shown it before" in told(values={"pair_exposures": [0.0]}, pair_seen=0.4)
    assert "user was shown it before" in told(values={"pair_exposures": [2.0]}, pair_seen=0.4)
    assert "what was between the user and it speaks for it" in told(pair_seen=0.4)


def test_no_feature_is_named_and_each_sentence_is_one() -> None:
    for rank in range(1, 12):
        found = told(rank, past=[RAIN], interest_score=0.1, item_ctr_1d=-0.2, tags_known=0.3, pair_seen=-0.1)
        assert re.fullmatch(r"[A-Z0-9][^_.]*\.", found)


@pytest.mark.parametrize(
    ("rank", "word"), [(3, "Third"), (10, "Tenth"), (11, "11th"), (21, "21st"), (112, "112th")]
)
def test_places_are_ordinals(rank: int, word: str) -> None:
    assert told(rank, of=500, item_ctr_1d=1.0).startswith(f"{word} because")


def test_no_rows_have_no_sentences() -> None:
    listed = pl.DataFrame(schema={"rank": pl.Int32, "candidates": pl.Int64, "past": PAST})

    found = sentences(listed, pl.DataFrame(schema={"item_ctr_1d": pl.Float64, "bias": pl.Float64}), CATALOGUE)

    assert found.name == "reasons"
    assert found.to_list() == []


def test_the_past_is_told_with_what_was_passed_over() -> None:
    passed = {"title": "Snow", "action": "passed"}

    assert because_of([RAIN, passed]) == "because of “Rain over the bay”, passing over “Snow”"
    assert because_of([]) is None
    assert because_of(None) is None
    assert "a user who passed over “Snow”" in told(past=[passed], interest_score=1.0)


def test_long_titles_are_cut_and_their_quotation_marks_do_not_end_the_quotation() -> None:
    found = quote("“A very long headline” about the harbour " * 5)

    assert found.startswith("“‘A very long headline’ about")
    assert found.endswith("…”")
    assert len(found) <= 62
