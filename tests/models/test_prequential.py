"""A slice under every scorer: what is written beside the scores, and that guarded segments reach the promotion."""

from types import SimpleNamespace

import polars as pl
import pytest

from features.behaviour import advance
from features.events.item_versions import versions
from features.state import SliceEvents, start
from models.prequential import SCORERS, Background, evaluate_slice, promotion_values, score_slice
from models.ranker import Ranker


def _ranker(column: str) -> Ranker:
    """A ranker that orders by one column."""
    return SimpleNamespace(  # type: ignore[return-value]
        score=lambda frame: frame[column].cast(pl.Float64).rename("rank_score"),
        probability=lambda scores: (scores / 10).rename("click_probability"),
    )


@pytest.fixture
def scored(toy: SimpleNamespace) -> pl.DataFrame:
    """Forty lists of three, the first shown before item `x` became a `b`; `y` was never described."""
    rows = [(n, item, place) for n in range(40) for place, item in enumerate("xyz", 1)]
    dataset = pl.DataFrame(
        {
            "impression_id": [f"r{n:02}" for n, _, _ in rows],
            "item_id": [item for _, item, _ in rows],
            "user_id": [f"u{n % 2}" for n, _, _ in rows],
            "position": [place for _, _, place in rows],
            "as_of": [toy.at(10 * n) for n, _, _ in rows],
            "label": [float(item == "x") for _, item, _ in rows],
            "clicked": [item == "x" for _, item, _ in rows],
            "interest_score": pl.Series([None] * len(rows), dtype=pl.Float32),
            "good": [3.0 - place for _, _, place in rows],
            "bad": [float(place) for _, _, place in rows],
        }
    )
    before = toy.items(toy.item("x", toy.at(-5), category="a"), toy.item("z", toy.at(-5)))
    later = toy.items(toy.item("x", toy.at(10), category="b"))
    known = SliceEvents(toy.items(), toy.impressions(("q", "u1", toy.at(-9), ["w"])), toy.interactions())
    state = advance(start(toy.project()), known, toy.at(-5), toy.project())
    # None of the baselines' columns need be among the ranker's.
    measured = dataset.select(
        "impression_id", "item_id", item_clicks_all=pl.lit(1.0), item_age_hours=pl.lit(2.0)
    )
    users, items = state.counts("user")["user_id"], state.counts("item")["item_id"]
    known = Background(measured, versions(before, later), users, items)
    return score_slice(dataset, _ranker("good"), _ranker("bad"), known, seed=1)


def test_an_item_has_the_attributes_that_were_known_strictly_before_its_list(scored: pl.DataFrame) -> None:
    said = {
        row["impression_id"]: row["attributes"] for row in scored.filter(item_id="x").iter_rows(named=True)
    }
    assert said["r00"] == said["r01"] == [{"name": "category", "value": "a"}]
    assert said["r02"] == said["r39"] == [{"name": "category", "value": "b"}]
    assert scored.filter(item_id="y")["attributes"].null_count() == 40
    assert scored.filter(item_id="z")["attributes"].to_list() == [[]] * 40


def test_beside_the_scores_stand_the_probability_and_who_is_new(scored: pl.DataFrame) -> None:
    assert set(SCORERS) <= set(scored.columns)
    assert scored["full"].to_list() == [2.0, 1.0, 0.0] * 40
    assert scored["click_probability"].to_list() == pytest.approx([0.2, 0.1, 0.0] * 40)
    assert scored["text_only"].to_list() == [0.0] * 120
    assert scored["new_item"].all()
    assert scored.filter("new_user")["user_id"].unique().to_list() == ["u0"]


def test_every_judgement_holds_the_ranker_beside_itself_without_text_and_without_behaviour(
    scored: pl.DataFrame, toy: SimpleNamespace
) -> None:
    result = evaluate_slice(scored, toy.project(evaluation={"min_impressions": 15}))
    assert {"full", "behaviour_only", "text_only"} <= set(result.as_json()["scorers"])
    assert result.as_json("new_users")["scorers"]["full"]["mrr"]["mean"] == 1.0
    # A list restricted to the only item with a category has nothing else to put it above.
    assert result.left_out["category: b"] == 0


def test_a_champion_is_scored_on_the_same_lists_in_all_and_in_guarded_segments(
    scored: pl.DataFrame, toy: SimpleNamespace
) -> None:
    project = toy.project(promotion={"guard": {"new_users": 0.1, "category: absent": 0.1}})
    dataset = scored.with_columns(worst=pl.col("behaviour_only")).reverse()
    values = promotion_values(dataset, scored, _ranker("worst"), project)
    means = values.group_by("segment", "scorer").agg(pl.col("mrr").mean(), lists=pl.len())
    found = {(segment, scorer): (mrr, lists) for segment, scorer, mrr, lists in means.iter_rows()}
    assert found["all", "challenger"] == (1.0, 40)
    assert found["all", "champion"] == (pytest.approx(1 / 3), 40)
    assert found["new_users", "champion"] == (pytest.approx(1 / 3), 20)
    assert set(values["segment"]) == {"all", "new_users"}
    assert set(promotion_values(dataset, scored, None, project)["segment"]) == {"all"}
