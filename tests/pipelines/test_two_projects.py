"""Two projects in one Dagster and one home: each has its own assets, jobs and tables."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from features.errors import ProjectError
from pipelines.dagster_names import asset_key, named
from pipelines.definitions import JOB, define
from pipelines.deployment import Deployment
from pipelines.triggers.partitions import range_tags, under_way

SLICE = "2026-01-05"
TABLES = ("items", "impressions", "interactions", "candidates", "rejects", "moment_state")
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def test_a_slice_of_each_is_run_in_one_instance(
    tmp_path: Path, small_newsroom: Callable[..., Deployment]
) -> None:
    one, two = (
        small_newsroom(tmp_path),
        small_newsroom(tmp_path, 'name="my-shop"', "source.newsroom.impressions_a_day=40"),
    )
    merged = dg.Definitions.merge(define(one), define(two))
    jobs = {job.name for job in merged.get_repository_def().get_all_jobs()}
    assert jobs == {"__ASSET_JOB", "newsroom_advance_slices", "my_shop_advance_slices"}
    with dg.DagsterInstance.from_config(str(one.settings.dagster_home)) as instance:
        for made in (one, two):
            assert made.lake.tables() == []
            job = merged.resolve_job_def(named(made.project.name, JOB))
            selected = [asset_key(made.project.name, name) for name in TABLES]
            tags = range_tags(SLICE, SLICE)
            assert job.execute_in_process(QUIET, instance, tags=tags, asset_selection=selected).success
            assert all(instance.get_latest_materialization_event(key) for key in selected)
            once = dg.AssetCheckKey(asset_key(made.project.name, "impressions"), "unique")
            assert instance.event_log_storage.get_asset_check_execution_history(once, limit=1)
        instance.create_run_for_job(job, tags=tags)
        waiting = [under_way(instance, named(made.project.name, JOB), [SLICE]) for made in (one, two)]

    assert waiting == [set(), {SLICE}]
    rows = [made.lake.read("impressions").height for made in (one, two)]
    assert rows[0] > 60 > rows[1] > 20


@pytest.mark.parametrize("names", [("shop", "shop"), ("my-shop", "my_shop")])
def test_two_projects_with_the_same_name_are_an_error(
    tmp_path: Path, small_newsroom: Callable[..., Deployment], names: tuple[str, str]
) -> None:
    made = [small_newsroom(tmp_path, f'name="{name}"') for name in names]

    with pytest.raises(ProjectError, match="projects that share a Dagster need different names"):
        define(*made)
