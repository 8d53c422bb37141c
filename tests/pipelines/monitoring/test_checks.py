"""Each check passes a valid table and fails an invalid one."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import dagster as dg
import polars as pl
import pytest

from features.config.project import Project
from features.config.slices import Slices
from features.errors import ProjectError
from pipelines.monitoring.checks import BLOCKING, WARNING, Rule, build, declared
from pipelines.triggers.partitions import ONE_RUN, partitions, range_tags

RULES = {(rule.asset, rule.name): rule for rule in (*BLOCKING, *WARNING)}
EARLY, LATE = datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC)


def table(**columns: list[object]) -> pl.DataFrame:
    size = len(next(iter(columns.values())))
    return pl.DataFrame({**columns, "slice": ["2026-01-05"] * size})


def evaluated(full: float) -> pl.DataFrame:
    scorers = ["full", "random", "popularity"]
    return table(scorer=scorers, metric=["ndcg@10"] * 3, segment=["all"] * 3, mean=[full, 0.3, 0.4])


def shares(one: float, other: float) -> pl.DataFrame:
    unknown = pl.Series([None, None], dtype=pl.Float64)
    shares = table(
        scorer=["full"] * 2, attribute=["category"] * 2, value=["a", None], share_of_positions=[one, other]
    )
    return shares.with_columns(share_of_candidates=pl.lit(0.5), share_of_clicks=unknown)


CASES = {
    ("impressions", "unique"): (table(impression_id=["a", "b"]), table(impression_id=["a", "a"])),
    ("impressions", "not_empty"): (table(impression_id=["a"]), table(impression_id=[])),
    ("interactions", "known_at"): (
        table(happened_at=[EARLY], known_at=[LATE]),
        table(happened_at=[LATE], known_at=[EARLY]),
    ),
    ("candidates", "unique"): (
        table(impression_id=["a", "a"], item_id=["x", "y"]),
        table(impression_id=["a", "a"], item_id=["x", "x"]),
    ),
    ("candidates", "both_outcomes"): (table(clicked=[True, False]), table(clicked=[False, False])),
    ("item_vectors", "unit_length"): (table(vector=[[0.6, 0.8]]), table(vector=[[0.6, 0.9]])),
    ("features", "finite"): (table(a=[1.0, None]), table(a=[1.0, float("inf")])),
    ("interest_scores", "fitted_earlier"): (
        table(interest_slice=["2026-01-04", None]),
        table(interest_slice=["2026-01-05", None]),
    ),
    ("ranking_dataset", "unique"): (
        table(impression_id=["a", "b"], item_id=["x", "x"]),
        table(impression_id=["a", "a"], item_id=["x", "x"]),
    ),
    ("ranked_lists", "unique"): (
        table(user_id=["u", "v"], item_id=["x", "x"]),
        table(user_id=["u", "u"], item_id=["x", "x"]),
    ),
    ("moment_state", "non_negative"): (
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
    ("promotion", "fitted_earlier"): (
        table(challenger_slice=["2026-01-04"]),
        table(challenger_slice=["2026-01-05"]),
    ),
    ("evaluation", "fitted_earlier"): (
        table(ranker_slice=["2026-01-04"]),
        table(ranker_slice=["2026-01-05"]),
    ),
    ("exposure", "shares_sum"): (shares(0.3, 0.7), shares(0.3, 0.6)),
    ("experiment", "sample_ratio"): (table(ratio_p=[0.2]), table(ratio_p=[1e-6])),
    ("evaluation", "beats_random"): (evaluated(0.5), evaluated(0.2)),
    ("evaluation", "beats_popularity"): (evaluated(0.5), evaluated(0.35)),
}


@pytest.mark.parametrize("key", RULES, ids="-".join)
def test_a_check_passes_valid_tables_only(key: tuple[str, str]) -> None:
    rule: Rule = RULES[key]
    valid, invalid = CASES[key]
    assert rule.failing(valid) == 0
    assert rule.failing(invalid) > 0


def project(**level: str) -> Project:
    config = {"name": "toy", "source": {"format": "newsroom"}, "slices": {"start": EARLY}}
    return Project.model_validate({**config, "checks": {"level": level}})


def test_a_project_sets_the_level_of_each_check() -> None:
    defaults = {f"{check.asset}.{check.name}": level for check, level in declared(project().checks)}
    levels = {"impressions.volume": "block", "items.text": "off", "candidates.unique": "warn"}
    actual = {f"{check.asset}.{check.name}": level for check, level in declared(project(**levels).checks)}
    assert defaults["impressions.volume"] == defaults["items.text"] == "warn"
    assert defaults["candidates.unique"] == "block"
    assert actual == {name: level for name, level in {**defaults, **levels}.items() if level != "off"}
    specs = [spec for check in build(project(**levels)) for spec in check.check_specs]
    blocking = {f"{spec.asset_key.path[-1]}.{spec.name}": spec.blocking for spec in specs}
    assert blocking["impressions.volume"] is True
    assert blocking["candidates.unique"] is False
    assert "items.text" not in blocking


def test_an_unknown_check_names_the_nearest() -> None:
    with pytest.raises(ProjectError, match=r"the nearest is 'impressions\.volume'"):
        build(project(**{"impressions.volum": "off"}))


@pytest.mark.parametrize("id", ["a", "b"])
def test_a_check_of_a_range_of_slices_lists_no_partitions(id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    minutes = Slices.model_validate({"start": EARLY, "every": "1m"})
    config = project().model_copy(update={"slices": minutes})
    keys = minutes.keys(EARLY, LATE)[:2]
    rows = pl.DataFrame({"impression_id": ["a", id], "slice": keys[:1] * 2})
    lake = SimpleNamespace(slices=lambda _: keys, read=lambda *_: rows)

    @dg.asset(key_prefix="toy", partitions_def=partitions(minutes), backfill_policy=ONE_RUN)
    def impressions() -> None: ...

    key = dg.AssetCheckKey(dg.AssetKey(["toy", "impressions"]), "unique")
    (unique,) = (check for check in build(config) if key in check.check_keys)
    resources = {"toy_deployment": SimpleNamespace(lake=lake, settings=SimpleNamespace(cache=Path()))}
    job = dg.Definitions(
        [impressions], asset_checks=[unique], resources=resources
    ).resolve_implicit_global_asset_job_def()
    listed = Mock(side_effect=AssertionError("every partition was listed"))
    monkeypatch.setattr(dg.TimeWindowPartitionsDefinition, "get_partition_keys", listed)
    with dg.instance_for_test() as instance:
        result = job.execute_in_process(instance=instance, tags=range_tags(*keys), raise_on_error=False)

    (evaluation,) = result.get_asset_check_evaluations()
    assert evaluation.passed == result.success == (id == "b")
    assert evaluation.blocking
    assert evaluation.target_materialization_data
    assert evaluation.target_materialization_data.run_id == result.run_id
