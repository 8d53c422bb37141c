"""Each check holds on a sound table and fails on one that breaks its sentence."""

from datetime import UTC, datetime
from types import SimpleNamespace
from unittest.mock import Mock

import dagster as dg
import polars as pl
import pytest

from features.config.project import Project
from features.config.slices import Slices
from features.errors import ProjectError
from pipelines.monitoring.checks import BLOCKING, WARNING, Rule, build, declared
from pipelines.triggers.partitions import ONE_RUN, partitions, span

RULES = {(rule.asset, rule.name): rule for rule in (*BLOCKING, *WARNING)}
EARLY, LATE = datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC)


def table(**columns: list[object]) -> pl.DataFrame:
    size = len(next(iter(columns.values())))
    return pl.DataFrame({**columns, "slice": ["2026-01-05"] * size})


def evaluated(full: float) -> pl.DataFrame:
    scorers = ["full", "random", "popularity"]
    return table(scorer=scorers, metric=["ndcg@10"] * 3, segment=["all"] * 3, mean=[full, 0.3, 0.4])


def shares(one: float, other: float) -> pl.DataFrame:
    nothing = pl.Series([None, None], dtype=pl.Float64)
    found = table(
        scorer=["full"] * 2, attribute=["category"] * 2, value=["a", None], share_of_positions=[one, other]
    )
    return found.with_columns(share_of_candidates=pl.lit(0.5), share_of_clicks=nothing)


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
    ("promotion", "guarded"): (
        table(
            promoted=[True, True, False], guard_slack=[0.0, None, -0.1], calibration_slack=[0.0, 0.1, -0.1]
        ),
        table(promoted=[True], guard_slack=[0.1], calibration_slack=[-0.1]),
    ),
    ("promotion", "earlier"): (
        table(challenger_slice=["2026-01-04"]),
        table(challenger_slice=["2026-01-05"]),
    ),
    ("evaluation", "never_saw_its_slice"): (
        table(ranker_slice=["2026-01-04"]),
        table(ranker_slice=["2026-01-05"]),
    ),
    ("exposure", "whole"): (shares(0.3, 0.7), shares(0.3, 0.6)),
    ("evaluation", "beats_random"): (evaluated(0.5), evaluated(0.2)),
    ("evaluation", "beats_popularity"): (evaluated(0.5), evaluated(0.35)),
}


@pytest.mark.parametrize("key", RULES, ids="-".join)
def test_a_check_tells_sound_from_broken(key: tuple[str, str]) -> None:
    rule: Rule = RULES[key]
    sound, broken = CASES[key]
    assert rule.failing(sound) == 0
    assert rule.failing(broken) > 0


def project(**level: str) -> Project:
    given = {"name": "toy", "source": {"format": "newsroom"}, "slices": {"start": EARLY}}
    return Project.model_validate({**given, "checks": {"level": level}})


def test_a_project_says_what_each_check_does() -> None:
    usual = {f"{check.asset}.{check.name}": level for check, level in declared(project())}
    asked = {"impressions.volume": "block", "items.text": "off", "candidates.once": "warn"}
    found = {f"{check.asset}.{check.name}": level for check, level in declared(project(**asked))}
    assert usual["impressions.volume"] == usual["items.text"] == "warn"
    assert usual["candidates.once"] == "block"
    assert found == {name: level for name, level in {**usual, **asked}.items() if level != "off"}
    specs = [spec for check in build(project(**asked)) for spec in check.check_specs]
    blocking = {f"{spec.asset_key.path[-1]}.{spec.name}": spec.blocking for spec in specs}
    assert blocking["impressions.volume"] is True
    assert blocking["candidates.once"] is False
    assert "items.text" not in blocking


def test_a_level_of_no_check_names_the_nearest() -> None:
    with pytest.raises(ProjectError, match=r"the nearest is 'impressions\.volume'"):
        build(project(**{"impressions.volum": "off"}))


@pytest.mark.parametrize("id", ["a", "b"])
def test_a_check_of_a_range_of_slices_lists_no_partitions(id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    minutes = Slices.model_validate({"start": EARLY, "every": "1m"})
    made = project().model_copy(update={"slices": minutes})
    keys = minutes.keys(EARLY, LATE)[:2]
    rows = pl.DataFrame({"impression_id": ["a", id], "slice": keys[:1] * 2})
    lake = SimpleNamespace(slices=lambda _: keys, read=lambda *_: rows)

    @dg.asset(key_prefix="toy", partitions_def=partitions(made), backfill_policy=ONE_RUN)
    def impressions() -> None: ...

    key = dg.AssetCheckKey(dg.AssetKey(["toy", "impressions"]), "once")
    (once,) = (check for check in build(made) if key in check.check_keys)
    resources = {"toy_deployment": SimpleNamespace(lake=lake)}
    job = dg.Definitions(
        [impressions], asset_checks=[once], resources=resources
    ).resolve_implicit_global_asset_job_def()
    listed = Mock(side_effect=AssertionError("every partition was listed"))
    monkeypatch.setattr(dg.TimeWindowPartitionsDefinition, "get_partition_keys", listed)
    with dg.instance_for_test() as instance:
        ran = job.execute_in_process(instance=instance, tags=span(*keys), raise_on_error=False)

    (found,) = ran.get_asset_check_evaluations()
    assert found.passed == ran.success == (id == "b")
    assert found.blocking
    assert found.target_materialization_data
    assert found.target_materialization_data.run_id == ran.run_id
