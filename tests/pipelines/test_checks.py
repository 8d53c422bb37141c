"""Each check holds on a sound table and fails on one that breaks its sentence."""

from datetime import UTC, datetime

import polars as pl
import pytest

from pipelines.checks import BLOCKING, WARNING, Rule

RULES = {(rule.asset, rule.name): rule for rule in (*BLOCKING, *WARNING)}
EARLY, LATE = datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC)


def table(**columns: list[object]) -> pl.DataFrame:
    size = len(next(iter(columns.values())))
    return pl.DataFrame({**columns, "slice": ["2026-01-05"] * size})


def judged(full: float) -> pl.DataFrame:
    scorers = ["full", "random", "popularity"]
    return table(scorer=scorers, metric=["ndcg@10"] * 3, segment=["all"] * 3, mean=[full, 0.3, 0.4])


CASES = {
    ("impressions", "once"): (table(impression_id=["a", "b"]), table(impression_id=["a", "a"])),
    ("impressions", "some"): (table(impression_id=["a"]), table(impression_id=[])),
    ("interactions", "known_after"): (
        table(happened_at=[EARLY], known_at=[LATE]),
        table(happened_at=[LATE], known_at=[EARLY]),
    ),
    ("candidates", "once"): (
        table(impression_id=["a", "a"], item_id=["x", "y"]),
        table(impression_id=["a", "a"], item_id=["x", "x"]),
    ),
    ("candidates", "clicked"): (table(clicked=[True, False]), table(clicked=[False, False])),
    ("item_vectors", "unit_length"): (table(vector=[[0.6, 0.8]]), table(vector=[[0.6, 0.9]])),
    ("features", "finite"): (table(a=[1.0, None]), table(a=[1.0, float("inf")])),
    ("features", "known_items"): (table(item_age_hours=[1.0, 2.0]), table(item_age_hours=[1.0, None])),
    ("interest_scores", "never_saw_its_slice"): (
        table(interest_slice=["2026-01-04", None]),
        table(interest_slice=["2026-01-05", None]),
    ),
    ("ranking_dataset", "once"): (
        table(impression_id=["a", "b"], item_id=["x", "x"]),
        table(impression_id=["a", "a"], item_id=["x", "x"]),
    ),
    ("ranked_lists", "once"): (
        table(user_id=["u", "v"], item_id=["x", "x"]),
        table(user_id=["u", "u"], item_id=["x", "x"]),
    ),
    ("moment_state", "counted"): (
        table(item_id=["a"], clicks_all=[0.0]),
        table(item_id=["a"], clicks_all=[-1.0]),
    ),
    ("promotion", "not_worse"): (
        table(promoted=[True, False], difference=[0.0, -0.1]),
        table(promoted=[True, False], difference=[-0.1, 0.0]),
    ),
    ("items", "titled"): (table(title=["a"]), table(title=[""])),
    ("rejects", "few"): (table(reason=["r"] * 1000), table(reason=["r"] * 1001)),
    ("evaluation", "beats_random"): (judged(0.5), judged(0.2)),
    ("evaluation", "beats_popularity"): (judged(0.5), judged(0.35)),
}


@pytest.mark.parametrize("key", RULES, ids="-".join)
def test_a_check_tells_sound_from_broken(key: tuple[str, str]) -> None:
    rule: Rule = RULES[key]
    sound, broken = CASES[key]
    assert rule.failing(sound) == 0
    assert rule.failing(broken) > 0
