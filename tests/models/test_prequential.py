"""A slice under every scorer: the columns beside the scores, and the guarded segments of a promotion."""

from types import SimpleNamespace

import polars as pl
import pytest

from features.behaviour import advance
from features.config.sections import Evaluation, Promotion
from features.events.point_in_time import versions
from features.state import SliceEvents, start
from models.evaluation.baselines import BASELINES
from models.prequential import Background, evaluate_slice, promotion_values, score_slice, scorers
from models.ranker import Ranker


def _ranker(column: str) -> Ranker:
    """A ranker that orders by one column."""
    return SimpleNamespace(  # type: ignore[return-value]
        score=lambda frame: frame[column].cast(pl.Float64).rename("rank_score"),
        probability=lambda scores: (scores / 10).rename("click_probability"),
    )


@pytest.fixture
def scored(toy: SimpleNamespace) -> pl.DataFrame:
    """Forty impressions of three items; the first precede the version of `x` with category `b`; `y` has no version."""
    rows = [(n, item, position) for n in range(40) for position, item in enumerate("xyz", 1)]
    dataset = pl.DataFrame(
        {
            "impression_id": [f"r{n:02}" for n, _, _ in rows],
            "item_id": [item for _, item, _ in rows],
            "user_id": [f"u{n % 2}" for n, _, _ in rows],
            "position": [position for _, _, position in rows],
            "as_of": [toy.at(10 * n) for n, _, _ in rows],
            "label": [float(item == "x") for _, item, _ in rows],
            "clicked": [item == "x" for _, item, _ in rows],
            "interest_score": pl.Series([None] * len(rows), dtype=pl.Float32),
            "good": [3.0 - position for _, _, position in rows],
            "bad": [float(position) for _, _, position in rows],
        }
    )
    before = toy.items(toy.item("x", toy.at(-5), category="a"), toy.item("z", toy.at(-5)))
    later = toy.items(toy.item("x", toy.at(10), category="b"))
    earlier = SliceEvents(toy.items(), toy.impressions(("q", "u1", toy.at(-9), ["w"])), toy.interactions())
    state = advance(start(toy.project().slices.start, toy.project().behaviour), earlier, toy.at(-5))
    # The baselines' columns need not be among the ranker's.
    measured = dataset.select(
        "impression_id", "item_id", item_clicks_all=pl.lit(1.0), item_age_hours=pl.lit(2.0)
    )
    users, items = state.counts("user")["user_id"], state.counts("item")["item_id"]
    clicks = pl.DataFrame(
        {"user_id": ["u1"], "history_clicks": [7]}, schema_overrides={"history_clicks": pl.UInt32}
    )
    known = Background(measured, BASELINES, versions(before, later), users, items, clicks)
    return score_slice(dataset, _ranker("good"), _ranker("bad"), known, seed=1)


def test_an_item_has_the_attributes_known_strictly_before_the_impression(scored: pl.DataFrame) -> None:
    attributes = {
        row["impression_id"]: row["attributes"] for row in scored.filter(item_id="x").iter_rows(named=True)
    }
    assert attributes["r00"] == attributes["r01"] == [{"name": "category", "value": "a"}]
    assert attributes["r02"] == attributes["r39"] == [{"name": "category", "value": "b"}]
    assert scored.filter(item_id="y")["attributes"].null_count() == 40
    assert scored.filter(item_id="z")["attributes"].to_list() == [[]] * 40


def test_scores_come_with_probabilities_and_new_users_and_items(scored: pl.DataFrame) -> None:
    assert set(scorers(Evaluation())) <= set(scored.columns)
    assert scored["full"].to_list() == [2.0, 1.0, 0.0] * 40
    assert scored["click_probability"].to_list() == pytest.approx([0.2, 0.1, 0.0] * 40)
    assert scored["text_only"].to_list() == [0.0] * 120
    assert scored["new_item"].all()
    assert scored.filter("new_user")["user_id"].unique().to_list() == ["u0"]
    assert {*scored.select("user_id", "history_clicks").rows()} == {("u0", 0), ("u1", 7)}
    # `y` has no version; the newer version of `x`, without a date of publication, is known from minute 10 on.
    hours = scored.filter(pl.col("impression_id") == "r02").select("item_id", "item_hours").rows()
    assert dict(hours) == {"x": pytest.approx(1 / 6), "y": None, "z": pytest.approx(25 / 60)}


def test_every_evaluation_includes_the_ranker_and_its_two_ablations(
    scored: pl.DataFrame, toy: SimpleNamespace
) -> None:
    result = evaluate_slice(
        scored, toy.project().items.categorical, Evaluation(min_impressions=15), Promotion(), seed=1
    )
    assert {"full", "behaviour_only", "text_only"} <= set(result.as_json()["scorers"])
    assert result.as_json("new_users")["scorers"]["full"]["mrr"]["mean"] == 1.0
    # An impression reduced to the only item with a category has nothing to rank it above.
    assert result.left_out["category: b"] == 0


def test_a_champion_is_scored_on_the_same_impressions_and_guarded_segments(
    scored: pl.DataFrame, toy: SimpleNamespace
) -> None:
    guard = ("new_users", "category: absent")
    dataset = scored.with_columns(worst=pl.col("behaviour_only")).reverse()
    values = promotion_values(dataset, scored, _ranker("worst"), ("category",), Evaluation(), guard)
    means = values.group_by("segment", "scorer").agg(pl.col("mrr").mean(), lists=pl.len())
    mrr_of = {(segment, scorer): (mrr, lists) for segment, scorer, mrr, lists in means.iter_rows()}
    assert mrr_of["all", "challenger"] == (1.0, 40)
    assert mrr_of["all", "champion"] == (pytest.approx(1 / 3), 40)
    assert mrr_of["new_users", "champion"] == (pytest.approx(1 / 3), 20)
    assert set(values["segment"]) == {"all", "new_users"}
    assert set(promotion_values(dataset, scored, None, (), Evaluation(), ())["segment"]) == {"all"}
